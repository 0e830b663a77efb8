//! The generator's modules are rooms, one above the other, and each uses only those below it (`docs/architecture.md`).

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const ROOMS: [&str; 5] = ["model", "telemetry", "cluster", "engine", "commands"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect();
    files.sort();
    files
}

/// Where the text of a file names a room above its own, one line each.
fn upward_uses(file: &str, text: &str) -> Vec<String> {
    let room_of = |path: &str| {
        let name = path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
        ROOMS.iter().position(|room| Some(*room) == name)
    };
    let Some(own) = room_of(file) else { return vec![] };
    let mut faults = Vec::new();
    for (position, name) in text.match_indices("crate::") {
        let rest = &text[position + name.len()..];
        // What stands behind it: a room, or several in braces.
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split(';').next().unwrap_or_default().split(['{', ',', '}']).map(str::trim).collect(),
            None => vec![rest],
        };
        for above in list.into_iter().filter_map(room_of).filter(|room| *room > own) {
            let line = text[..position].matches('\n').count() + 1;
            let below = if own == 0 { "nothing else".to_owned() } else { ROOMS[..own].join(", ") };
            let (own, above) = (ROOMS[own], ROOMS[above]);
            faults.push(format!("{file}:{line}: {own} uses {above}, which is above it; it may use: {below}"));
        }
    }
    faults
}

#[test]
fn each_room_uses_only_those_below_it() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut faults = Vec::new();
    for path in sources(root) {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap();
        let is_root = ["lib.rs", "main.rs"].contains(&file);
        let room = ROOMS.iter().any(|room| file == format!("{room}.rs") || file.starts_with(&format!("{room}/")));
        if !is_root && !room {
            faults.push(format!("{file}: every file is in one of the rooms {}", ROOMS.join(", ")));
        }
        faults.extend(upward_uses(file, &fs::read_to_string(&path).unwrap()));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn what_points_upwards_is_told_with_its_file_its_line_and_the_rule() {
    let text =
        "use crate::model::plan;\nuse crate::engine::session;\nuse crate::{\n    model,\n    commands::cli,\n};\n";
    assert_eq!(
        upward_uses("cluster/watch.rs", text),
        [
            "cluster/watch.rs:2: cluster uses engine, which is above it; it may use: model, telemetry",
            "cluster/watch.rs:3: cluster uses commands, which is above it; it may use: model, telemetry",
        ]
    );
    assert_eq!(
        upward_uses("model.rs", "    crate::telemetry::metrics::Metrics"),
        ["model.rs:1: model uses telemetry, which is above it; it may use: nothing else"]
    );
    assert!(upward_uses("engine/session.rs", text.lines().next().unwrap()).is_empty());
    assert!(upward_uses("lib.rs", text).is_empty());
}

#[test]
fn every_file_that_the_page_about_the_architecture_names_is_there() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let names = page.split(|c: char| !(c.is_alphanumeric() || "_-./".contains(c)));
    let files: Vec<_> = names.filter(|name| name.contains('/') && name.ends_with(".rs")).collect();
    assert!(files.len() > 40, "{files:?}");
    for file in files {
        // Those of the generator are named as they are below its sources.
        let is_there = [root.join(file), root.join("generator/src").join(file)].iter().any(|path| path.is_file());
        assert!(is_there, "docs/architecture.md names {file}");
    }
}
