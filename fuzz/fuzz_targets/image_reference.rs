//! Any text as an image reference, and any two as location and pattern: no panic, and normalising is idempotent.
#![no_main]

use image_pull_secrets::image::Image;
use image_pull_secrets::location::Location;
use image_pull_secrets::settings::ImagePattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| {
    let (reference, pattern) = texts;
    if let Ok(image) = Image::parse(reference) {
        assert_eq!(Image::parse(image.name()).expect("a normalised name is a reference").name(), image.name());
        if let Ok(pattern) = ImagePattern::parse(pattern) {
            let _ = pattern.matches(&image);
        }
        if let (Ok(location), Some(of_image)) = (Location::parse(pattern), image.location()) {
            let _ = location.holds(of_image);
        }
    }
});
