//! Generates the pairs. It uses few words, so that servers and images often match, and each word is there because it once
//! made a difference.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::env;

/// This many generated values. With another `DIFFERENTIAL_SEED` (a number) they are different.
pub fn generate<S: Strategy>(count: usize, strategy: S) -> Vec<S::Value> {
    let seed: u64 =
        env::var("DIFFERENTIAL_SEED").map_or(0, |seed| seed.parse().expect("DIFFERENTIAL_SEED is a number"));
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

const HOSTS: [&str; 15] = [
    "r.io",
    "a.r.io",
    "b.a.r.io",
    "R.io",
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "localhost",
    "UPPER",
    "1.2.3.4",
    "[::1]",
    "[::A]",
    "[fe80::1]",
    "a-b.io",
    "r.io.",
];
const PATTERNS: [&str; 26] = [
    "*.io",
    "*.r.io",
    "a.*.io",
    "*.*.*",
    "*.*",
    "*",
    "**",
    "r*.io",
    "*r.io",
    "*.docker.io",
    "d*.io",
    "docker.*",
    "*.dkr.ecr.*.amazonaws.com",
    "",
    ".r.io",
    "é.io",
    "r%C3%A9.io",
    "r%25.io",
    "r.%69o",
    "[r].io",
    "r[.]io",
    "[::1%25e]",
    "[::ffff:1.2.3.4]",
    "r?.io",
    "r\\.io",
    "r .io",
];
const PATHS: [&str; 29] = [
    "",
    "/",
    "/v1/",
    "/v2/",
    "/v1",
    "/v2",
    "/v3/",
    "/v1/x",
    "/v1/v1/x",
    "/v1//",
    "/x",
    "/x/",
    "/x/y",
    "/x/y/z",
    "/xy",
    "//",
    "/./x",
    "/*",
    "/x:tag",
    "/library",
    "/library/",
    "/library/nginx",
    "/%78",
    "/%2578",
    "/%761/x",
    "/x%3Fy",
    "/%23zz",
    "/%zz",
    "/%",
];
const REPOSITORIES: [&str; 14] =
    ["x", "x/y", "x/y/z", "xy", "v1", "v1/x", "v2/x", "nginx", "library/nginx", "a_b", "a--b/c", "X", "a..b", ""];

fn host() -> impl Strategy<Value = String> {
    prop_oneof![6 => select(&HOSTS[..]).prop_map(str::to_owned), 1 => "[a-cR.:_-]{0,6}", 1 => "[a-z]\\.[a-z_]{1,3}\\.io"]
}

fn port() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => Just(""),
        3 => Just(":5000"),
        2 => select(&[":", ":443", ":05000", ":*", ":abc", ":80:90", ":99999", ":5000:"][..]),
    ]
}

/// A key below `auths`.
pub fn server() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![
        6 => Just(""),
        3 => Just("https://"),
        1 => select(&["http://", "HTTPS://", "ftp://", "//", "https://https://", "https:/"][..]),
    ];
    prop_oneof![
        12 => (scheme, pattern()).prop_map(|(scheme, rest)| format!("{scheme}{rest}")),
        2 => select(&["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://index.docker.io/v1"][..])
            .prop_map(str::to_owned),
        1 => "[a-z.*:/@%#?\\[\\]\\\\ \n\u{e9}0-9]{0,12}",
    ]
}

/// An entry of `matchImages`.
pub fn pattern() -> impl Strategy<Value = String> {
    let user = prop_oneof![12 => Just(""), 1 => select(&["u:p@", "@", "u@", "u@v@", "é@", "%zz@", "a b@"][..])];
    let host = prop_oneof![3 => host(), 2 => select(&PATTERNS[..]).prop_map(str::to_owned)];
    let path = prop_oneof![1 => Just(""), 2 => select(&PATHS[..])];
    let rest =
        prop_oneof![12 => Just(""), 1 => select(&["?x", "#f", "?%zz", "#%zz", "?", "#", "?x#y", "\t", "\u{7f}"][..])];
    (user, host, port(), path, rest)
        .prop_map(|(user, host, port, path, rest)| format!("{user}{host}{port}{path}{rest}"))
}

/// An image name that is valid or nearly valid.
pub fn image() -> impl Strategy<Value = String> {
    let registry = prop_oneof![2 => Just(String::new()), 7 => (host(), port()).prop_map(|(h, p)| format!("{h}{p}/"))];
    let repository = prop_oneof![
        8 => select(&REPOSITORIES[..]).prop_map(str::to_owned),
        1 => "[a-z0-9._/-]{1,12}",
        1 => (250_usize..258).prop_map(|length| "a".repeat(length)),
    ];
    let tag = prop_oneof![5 => Just(String::new()), 2 => Just(":1".to_owned()), 1 => ":[a-zA-Z0-9_.:-]{0,5}", 
        1 => (126_usize..131).prop_map(|length| format!(":{}", "t".repeat(length)))];
    let digits = prop_oneof![Just(64), Just(96), Just(128), Just(63), 30_usize..34];
    let algorithm = select(&["sha256", "sha384", "sha512", "SHA256", "md5", "a+b.c", "a++b", "1a", ""][..]);
    let digest = prop_oneof![
        5 => Just(String::new()),
        2 => (digits, select(&["a", "0", "F", "g"][..]), algorithm).prop_map(|(count, digit, algorithm)| format!("@{algorithm}:{}", digit.repeat(count))),
        1 => digest_of("sha256", 64),
    ];
    prop_oneof![
        20 => (registry, repository, tag, digest).prop_map(|(r, p, t, d)| format!("{r}{p}{t}{d}")),
        1 => "[a-f0-9]{64}",
        2 => "[a-zA-Z0-9.:/@_ \n-]{0,16}",
    ]
}

fn digest_of(algorithm: &'static str, digits: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&["0", "9", "a", "f"][..]), digits)
        .prop_map(move |digits| format!("@{algorithm}:{}", digits.concat()))
}

/// A usual image name.
pub fn valid_image() -> impl Strategy<Value = String> {
    let registry = prop_oneof![2 => Just(String::new()), 7 => (select(&HOSTS[..]), prop_oneof![2 => Just(""), 1 => Just(":5000")])
        .prop_map(|(host, port)| format!("{host}{port}/"))];
    (registry, select(&REPOSITORIES[..11])).prop_map(|(registry, repository)| format!("{registry}{repository}"))
}

/// An image, and servers most of which have its host.
pub fn servers_and_image(count: std::ops::Range<usize>) -> impl Strategy<Value = (Vec<String>, String)> {
    valid_image().prop_flat_map(move |image| {
        let server = prop_oneof![3 => near(&image), 2 => server()];
        (proptest::collection::vec(server, count.clone()), Just(image))
    })
}

/// A pattern, and an image that it probably matches.
pub fn pattern_and_image() -> impl Strategy<Value = (String, String)> {
    valid_image().prop_flat_map(|image| (prop_oneof![1 => near(&image), 1 => pattern()], Just(image)))
}

/// A server or pattern for the host of an image.
fn near(image: &str) -> impl Strategy<Value = String> + use<> {
    let (host, path) = image.split_once('/').unwrap_or(("docker.io", "library"));
    let (domain, rest) = host.split_once('.').unwrap_or((host, ""));
    let (name, port) = domain.split_at(domain.find(':').unwrap_or(domain.len()));
    let hosts =
        vec![host.to_owned(), host.to_owned(), format!("*.{rest}"), format!("{name}*.{rest}"), format!("*{port}")];
    let first = path.split('/').next().unwrap_or_default();
    let paths = ["", "", "", "/", "/v1/", "/v2/", "/v1", "?q"].map(str::to_owned).into_iter();
    let paths = paths.chain([format!("/{first}"), format!("/{first}/"), format!("/v1/{path}"), format!("/{path}")]);
    let schemes = &["", "", "", "https://", "http://"][..];
    (select(schemes), select(hosts), select(paths.collect::<Vec<_>>()))
        .prop_map(|(scheme, host, path)| format!("{scheme}{host}{path}"))
}

/// The text of a docker config that is valid or nearly valid. The older format has no `auths`.
pub fn document(legacy: bool) -> BoxedStrategy<Vec<u8>> {
    let top = if legacy { entries().boxed() } else { config().boxed() };
    let whole = prop_oneof![
        30 => top,
        1 => any_value(),
        1 => "[\\[\\]{}\":,0-9a-fu.eE+\\\\tnrls -]{0,12}".prop_map(|text| text),
    ];
    let around = || prop_oneof![12 => Just(""), 1 => select(&[" ", "\t\r\n", "\u{feff}", "\0", "x", "{}", "\u{c}", "\u{a0}"][..])];
    let bytes =
        (around(), whole, around()).prop_map(|(before, text, after)| format!("{before}{text}{after}").into_bytes());
    prop_oneof![
        8 => bytes.clone(),
        // One byte is changed, missing or added.
        1 => (bytes, any::<prop::sample::Index>(), any::<u8>(), 0..3).prop_map(|(mut bytes, at, byte, how)| {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
            bytes
        }),
    ]
    .boxed()
}

fn config() -> impl Strategy<Value = String> {
    let auths = select(
        &["auths", "auths", "auths", "AUTHS", "Auths", "auth\u{17f}", "\\u0061uths", "auth\\u017f", "auths "][..],
    );
    let member = prop_oneof![
        10 => (auths, prop_oneof![8 => entries().boxed(), 1 => any_value().boxed()]).prop_map(pair),
        2 => (select(&["HttpHeaders", "httpheaders", "HTTPHEADER\u{17f}"][..]), headers()).prop_map(pair),
        2 => (select(&["credsStore", "credHelpers", "x"][..]), any_value()).prop_map(pair),
    ];
    object(member.boxed(), 0..4)
}

fn headers() -> impl Strategy<Value = String> {
    let value = prop_oneof![5 => Just("\"h\"".to_owned()), 1 => any_value()];
    prop_oneof![4 => object(("[a-c]", value).prop_map(pair).boxed(), 0..3), 1 => any_value()]
}

fn entries() -> impl Strategy<Value = String> {
    let server = select(
        &["r.io", "r.io", "https://r.io/v1/", "docker.io", "a.r.io", "*.io", "r\\u002eio", "r.io\\ud800", "R.io", ""][..],
    );
    object((server, entry()).prop_map(pair).boxed(), 0..4)
}

fn entry() -> impl Strategy<Value = String> {
    let name = select(
        &[
            "auth",
            "auth",
            "auth",
            "username",
            "password",
            "email",
            "AUTH",
            "Username",
            "uſername",
            "pas\\u017fword",
            "provider",
            "identitytoken",
            "a\\u0075th",
            "auth\\u0000",
        ][..],
    );
    let value = prop_oneof![8 => auth(), 2 => Just("\"u\"".to_owned()), 1 => any_value()];
    prop_oneof![12 => object((name, value).prop_map(pair).boxed(), 0..4), 1 => any_value()]
}

fn auth() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "dTpw",
            "dTpw",
            "dTpwcA==",
            "dTpwcA",
            "dTpwcA=",
            "dTpwcB==",
            "dTpwcB",
            "Og==",
            "Og",
            "OnA",
            "dTo=",
            "dTpwOnE=",
            "dXA=",
            "dXA",
            "",
            "=",
            "==",
            "a",
            "\\n",
            "\\r\\n",
            "dT\\r\\npw",
            "dTpwcA=\\n=",
            "dTpwcA==\\n",
            "dTpwcA== ",
            " dTpw",
            "dTpw ",
            "dT pw",
            "dTpw=",
            "dTpw====",
            "dTpwcA==dTpwcA==",
            "dTpwcA==x",
            "dTp-",
            "dTp_",
            "dTpw\\u000b",
            "dTpw\u{a0}",
            "dTpwcA==\u{a0}",
            "/zr/",
            "dT\\/pw",
            "\\u0064Tpw",
            "dTpw\\ud800",
            "\\t",
        ][..],
    );
    prop_oneof![8 => known.prop_map(|auth| format!("\"{auth}\"")), 2 => "\"[Oo0-9a-d:+/=]{0,9}\""]
}

fn any_value() -> impl Strategy<Value = String> {
    select(
        &[
            "null",
            "null",
            "1",
            "-0",
            "1e9999",
            "01",
            "1.",
            "true",
            "\"\"",
            "\"a\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"a\tb\"",
            "[]",
            "{}",
            "[1,]",
            "[[{\"a\":[]}]]",
            "{\"a\":1,\"a\":2}",
            "nul",
            "\"",
            "NaN",
            "'a'",
            "{a:1}",
            "",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn pair((name, value): (impl AsRef<str>, String)) -> String {
    format!("\"{}\":{value}", name.as_ref())
}

fn object(member: BoxedStrategy<String>, count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let space = prop_oneof![9 => Just(""), 1 => select(&[" ", "\n\t"][..])];
    (proptest::collection::vec(member, count), space)
        .prop_map(|(members, space)| format!("{{{space}{}{space}}}", members.join(&format!("{space},"))))
}
