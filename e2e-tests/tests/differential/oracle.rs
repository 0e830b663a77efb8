//! The kubelet's own code, as a child process that answers one line of JSON with another.

use image_pull_secrets_e2e::modules;
use serde::Deserialize;
use serde_json::{Value, json};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// The kubelet's answer for the Secrets of a Pod and one of its images.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    pub parses: bool,
    #[serde(default)]
    pub image_error: String,
    pub found: bool,
    pub credentials: Vec<Credential>,
}

#[derive(Debug, Deserialize)]
pub struct Credential {
    pub username: String,
    pub password: String,
    pub email: String,
}

/// The kubelet's answer for one entry of `matchImages`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    pub valid: bool,
    pub matches: bool,
}

/// The answer of distribution's reference package, and that of the kubelet, for an image name.
#[derive(Debug, Deserialize)]
pub struct Normalized {
    pub valid: bool,
    pub name: String,
    pub kubelet: KubeletName,
}

#[derive(Debug, Deserialize)]
pub struct KubeletName {
    pub repository: String,
}

pub fn lookup(secret_type: &str, document: &[u8], image: &str) -> Value {
    use base64::Engine as _;
    let document = base64::prelude::BASE64_STANDARD.encode(document);
    json!({"op": "lookup", "type": secret_type, "dataBase64": document, "image": image})
}

/// Sends all questions at once, and gives the answers in the same order.
pub fn ask<A: for<'a> Deserialize<'a>>(requests: Vec<Value>) -> Vec<A> {
    let program =
        env::var_os("ORACLE").map_or_else(|| modules::root().join("e2e-tests/cluster/bin/oracle"), PathBuf::from);
    let mut oracle =
        Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("cannot run {}: {error}. Build it with e2e-tests/cluster/build.sh oracle", program.display())
        });
    let asked = requests.len();
    let mut input = oracle.stdin.take().unwrap();
    let asking = thread::spawn(move || {
        for request in requests {
            writeln!(input, "{request}").unwrap();
        }
    });
    let lines = BufReader::new(oracle.stdout.take().unwrap()).lines();
    let answers: Vec<A> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    asking.join().unwrap();
    assert!(oracle.wait().unwrap().success());
    assert_eq!(answers.len(), asked);
    answers
}
