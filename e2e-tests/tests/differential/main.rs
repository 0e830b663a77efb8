//! Compares the library `core/` with the kubelet's own code. Both get the same input and have to give the same answer.

mod grammar;
mod oracle;
mod tables;

use grammar::{document, generate, image, pattern_and_image, servers_and_image, valid_image};
use image_pull_secrets::credential::credentials;
use image_pull_secrets::docker_config::DockerConfig;
use image_pull_secrets::image::Image;
use image_pull_secrets::keyring::attempts;
use image_pull_secrets::secret::SecretFormat;
use image_pull_secrets::settings::ImagePattern;
use oracle::{Lookup, Match, Normalized, ask, lookup};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Debug;

const FORMATS: [SecretFormat; 2] = [SecretFormat::DockerConfigJson, SecretFormat::DockerCfg];

/// Fails with the shortest input for which the answers differ.
fn none_differ<T: Debug>(mut differing: Vec<T>) {
    differing.sort_by_key(|difference| format!("{difference:?}").len());
    let shown: Vec<_> = differing
        .iter()
        .take(12)
        .map(|difference| format!("{difference:.300?}").chars().take(1000).collect::<String>())
        .collect();
    assert!(differing.is_empty(), "{} differ, the shortest are\n{}", differing.len(), shown.join("\n"));
}

/// Checks that enough of the pairs match.
fn at_least(percent: usize, count: usize, of: usize, what: &str) {
    assert!(count * 100 >= of * percent, "only {count} of {of} pairs are {what}: they prove nothing");
}

/// A docker config whose entries say in their email which server they are of.
fn config_of(format: SecretFormat, servers: &[String]) -> String {
    let entries: Map<_, _> =
        servers.iter().map(|server| (server.clone(), json!({"auth": "dTpw", "email": server}))).collect();
    match format {
        SecretFormat::DockerConfigJson => json!({"auths": entries}).to_string(),
        SecretFormat::DockerCfg => Value::Object(entries).to_string(),
    }
}

/// The answers of both for a Secret and an image: whether the config parses, and whether it covers the image.
fn compare_documents(asked: Vec<(SecretFormat, Vec<u8>, String)>) -> usize {
    let requests =
        asked.iter().map(|(format, document, image)| lookup(format.secret_type(), document, image)).collect();
    let (mut differing, mut parsed) = (Vec::new(), 0);
    for ((format, document, image), theirs) in asked.iter().zip(ask::<Lookup>(requests)) {
        let config = format.parse(document);
        let covers = match (&config, Image::parse(image)) {
            (Ok(config), Ok(image)) => config.covers(&image),
            _ => false,
        };
        parsed += usize::from(theirs.parses);
        if config.is_ok() != theirs.parses || covers != theirs.found {
            let document = String::from_utf8_lossy(document).into_owned();
            differing.push((
                format,
                document,
                image,
                ("ours", config.map(|_| covers)),
                ("theirs", theirs.parses, theirs.found),
            ));
        }
    }
    none_differ(differing);
    parsed
}

/// The servers of one config whose credentials are tried, in order.
fn tried<'a>(config: &'a DockerConfig, image: &Image) -> Vec<&'a str> {
    attempts(&[config], image).iter().map(|attempt| attempt.entry.server()).collect()
}

#[test]
fn coverage_and_the_servers_tried_are_the_kubelets() {
    let asked = generate(60_000, servers_and_image(1..5));
    let requests = asked.iter().enumerate().map(|(number, (servers, image))| {
        let format = FORMATS[number % 2];
        lookup(format.secret_type(), config_of(format, servers).as_bytes(), image)
    });
    let (mut differing, mut covered) = (Vec::new(), 0);
    for ((number, (servers, image)), theirs) in asked.iter().enumerate().zip(ask::<Lookup>(requests.collect())) {
        let format = FORMATS[number % 2];
        let config = format.parse(config_of(format, servers).as_bytes()).unwrap();
        assert!(theirs.parses);
        covered += usize::from(theirs.found);
        let ours = Image::parse(image).ok();
        assert_eq!(ours.is_none(), !theirs.image_error.is_empty(), "{image}");
        let tried: BTreeSet<_> = ours.iter().flat_map(|image| tried(&config, image)).collect();
        let their_tried: BTreeSet<_> = theirs.credentials.iter().map(|credential| credential.email.as_str()).collect();
        let covers = ours.as_ref().is_some_and(|image| config.covers(image));
        if covers != theirs.found || tried != their_tried {
            differing.push((
                servers,
                image,
                ("ours", covers, format!("{tried:?}")),
                ("theirs", theirs.found, format!("{their_tried:?}")),
            ));
        }
    }
    at_least(15, covered, asked.len(), "covered");
    none_differ(differing);
}

/// Within one Secret the kubelet's order among servers of one key is random; among Secrets it is theirs. So each server has
/// a Secret of its own here.
#[test]
fn the_order_of_the_servers_is_the_kubelets() {
    let asked = generate(40_000, servers_and_image(2..6));
    let in_order = |servers: &[String]| servers.iter().cloned().collect::<BTreeSet<_>>();
    let requests = asked.iter().map(|(servers, image)| {
        let secret = |(number, server): (usize, String)| {
            let format = FORMATS[number % 2];
            json!({"type": format.secret_type(), "data": config_of(format, &[server])})
        };
        let secrets: Vec<_> = in_order(servers).into_iter().enumerate().map(secret).collect();
        json!({"op": "lookup", "image": image, "secrets": secrets})
    });
    let (mut differing, mut several) = (Vec::new(), 0);
    for ((servers, image), theirs) in asked.iter().zip(ask::<Lookup>(requests.collect())) {
        let config = DockerConfig::parse(config_of(SecretFormat::DockerConfigJson, servers).as_bytes()).unwrap();
        let parsed = Image::parse(image).ok();
        let ours: Vec<_> = parsed.iter().flat_map(|image| tried(&config, image)).collect();
        let their_order: Vec<_> = theirs.credentials.iter().map(|credential| credential.email.as_str()).collect();
        several += usize::from(their_order.len() > 1);
        if ours != their_order {
            differing.push((image, format!("ours {ours:?}"), format!("theirs {their_order:?}")));
        }
    }
    at_least(10, several, asked.len(), "covered by several servers");
    none_differ(differing);
}

/// User names and passwords of several Secrets, whatever is in them; those without an order sorted.
#[test]
fn the_credentials_of_several_secrets_are_tried_in_the_order_of_the_kubelet() {
    let format = FORMATS[0];
    let config = |(servers, number): (Vec<String>, usize)| {
        let entry = |(at, server): (usize, &String)| {
            (server.clone(), json!({"username": format!("{number}-{at}"), "password": "p"}))
        };
        let entries: Map<_, _> = servers.iter().enumerate().map(entry).collect();
        json!({"auths": entries}).to_string().into_bytes()
    };
    let secrets = |image: &str, (servers, documents): (Vec<Vec<String>>, Vec<Vec<u8>>)| {
        let configs = servers.into_iter().enumerate().map(|(number, servers)| config((servers, number)));
        let secrets: Vec<_> = configs.chain(documents).filter(|document| !document.is_empty()).collect();
        (image.to_owned(), secrets)
    };
    let several = (servers_and_image(2..6), proptest::collection::vec(document(false), 0..2), 1_usize..4);
    let asked: Vec<_> = generate(40_000, several)
        .into_iter()
        .map(|((servers, image), documents, count)| {
            let each = servers.len().div_ceil(count);
            secrets(&image, (servers.chunks(each).map(<[_]>::to_vec).collect(), documents))
        })
        .collect();
    let requests = asked.iter().map(|(image, secrets)| {
        use base64::Engine as _;
        let encode = |document: &Vec<u8>| base64::prelude::BASE64_STANDARD.encode(document);
        let secret = |document| json!({"type": format.secret_type(), "dataBase64": encode(document)});
        json!({"op": "lookup", "image": image, "secrets": secrets.iter().map(secret).collect::<Vec<_>>()})
    });
    let (mut differing, mut several) = (Vec::new(), 0);
    for ((image, secrets), theirs) in asked.iter().zip(ask::<Lookup>(requests.collect())) {
        let parsed: Result<Vec<_>, _> =
            secrets.iter().map(|document| Ok((format.parse(document)?, credentials(format, document)?))).collect();
        let parsed: Result<_, image_pull_secrets::docker_config::DockerConfigError> = parsed;
        let ours = parsed.ok().map(|secrets: Vec<(DockerConfig, _)>| {
            let configs: Vec<_> = secrets.iter().map(|(config, _)| config).collect();
            let image = Image::parse(image).ok();
            let mut groups: Vec<Vec<(String, String)>> = Vec::new();
            for attempt in image.iter().flat_map(|image| attempts(&configs, image)) {
                let credential = &secrets[attempt.config].1[attempt.entry.server()];
                let pair = (credential.username().to_owned(), credential.password().to_owned());
                match groups.last_mut() {
                    Some(group) if attempt.is_interchangeable => group.push(pair),
                    _ => groups.push(vec![pair]),
                }
            }
            groups
        });
        let tried = theirs.credentials.iter().map(|tried| (tried.username.clone(), tried.password.clone()));
        let mut tried: Vec<_> = tried.collect();
        several += usize::from(tried.len() > 1);
        // What has no order is compared sorted.
        let ours = ours.map(|mut groups| {
            let mut start = 0;
            for group in &mut groups {
                group.sort();
                if let Some(theirs) = tried.get_mut(start..start + group.len()) {
                    theirs.sort();
                }
                start += group.len();
            }
            groups.concat()
        });
        if ours != theirs.parses.then_some(tried.clone()) {
            let secrets: Vec<_> =
                secrets.iter().map(|document| String::from_utf8_lossy(document).into_owned()).collect();
            differing.push((image, secrets, ("ours", ours), ("theirs", theirs.parses, tried)));
        }
    }
    at_least(10, several, asked.len(), "covered by several credentials");
    none_differ(differing);
}

#[test]
fn whatever_parses_for_the_kubelet_parses_here_and_nothing_else() {
    let generated = |format, legacy| {
        generate(40_000, (document(legacy), valid_image()))
            .into_iter()
            .map(move |(document, image)| (format, document, image))
    };
    let asked: Vec<_> = generated(FORMATS[0], false)
        .chain(generated(FORMATS[1], true))
        // The kubelet ignores an empty Secret. Here, `secret::docker_config` does that.
        .filter(|(_, document, _)| !document.is_empty())
        .collect();
    let count = asked.len();
    let parsed = compare_documents(asked);
    at_least(15, parsed, count, "parsed");
    at_least(15, count - parsed, count, "refused");
}

#[test]
fn the_awkward_documents_are_read_as_the_kubelet_reads_them() {
    let documents = tables::documents();
    compare_documents(
        documents
            .into_iter()
            .flat_map(|(format, document)| tables::IMAGES.map(|image| (format, document.clone(), image.to_owned())))
            .collect(),
    );
}

#[test]
fn every_awkward_server_covers_what_the_kubelet_lets_it_cover() {
    let pairs = tables::SERVERS.iter().flat_map(|server| tables::IMAGES.map(|image| (*server, image)));
    let asked = pairs.flat_map(|(server, image)| {
        FORMATS.map(|format| (format, config_of(format, &[server.to_owned()]).into_bytes(), image.to_owned()))
    });
    compare_documents(asked.collect());
}

fn compare_images(images: &[String]) -> usize {
    let requests = images.iter().map(|image| json!({"op": "normalize", "image": image})).collect();
    let (mut differing, mut valid) = (Vec::new(), 0);
    for (image, theirs) in images.iter().zip(ask::<Normalized>(requests)) {
        let ours = Image::parse(image).map(|image| image.name().to_owned());
        valid += usize::from(theirs.valid);
        let same = ours
            .as_ref()
            .map_or(!theirs.valid, |name| theirs.valid && *name == theirs.name && *name == theirs.kubelet.repository);
        if !same {
            differing.push((image, ours, theirs));
        }
    }
    none_differ(differing);
    valid
}

#[test]
fn image_names_are_normalised_as_by_docker_pull() {
    let images = generate(60_000, image());
    let valid = compare_images(&images);
    at_least(20, valid, images.len(), "valid");
    at_least(20, images.len() - valid, images.len(), "refused");
    compare_images(&tables::IMAGES.map(str::to_owned));
    compare_images(&tables::AWKWARD_IMAGES.map(str::to_owned));
}

fn compare_patterns(asked: &[(String, String)]) -> usize {
    let requests =
        asked.iter().map(|(pattern, image)| json!({"op": "matchImages", "pattern": pattern, "image": image}));
    let (mut differing, mut matching) = (Vec::new(), 0);
    for ((pattern, image), theirs) in asked.iter().zip(ask::<Match>(requests.collect())) {
        matching += usize::from(theirs.matches);
        let same = match ImagePattern::parse(pattern) {
            Ok(ours) => theirs.valid && Image::parse(image).is_ok_and(|image| ours.matches(&image)) == theirs.matches,
            // What the kubelet refuses, and what can never match. It also drops a user, a query and a fragment without a
            // word; here they are refused, as nobody can have meant them.
            Err(_) => !theirs.matches || pattern.contains(['@', '?', '#']),
        };
        if !same {
            differing.push((pattern, image, ("ours", ImagePattern::parse(pattern).map(|_| ())), theirs));
        }
    }
    none_differ(differing);
    matching
}

#[test]
fn match_images_matches_as_the_kubelets_setting() {
    let asked = generate(60_000, pattern_and_image());
    let matching = compare_patterns(&asked);
    at_least(3, matching, asked.len(), "matching");
    let table = tables::SERVERS
        .iter()
        .flat_map(|pattern| tables::IMAGES.map(|image| ((*pattern).to_owned(), image.to_owned())));
    compare_patterns(&table.collect::<Vec<_>>());
}
