//! What a request costs in the policy's module, beside the plain SDK way (`yardstick/`).
//!
//! Both modules take turns within one run, so that whatever else the machine does, it does to both. Each call has a
//! fresh instance, as in policy-server: how long it takes to have one and how long `validate` runs are measured apart.
//! Figures are medians. The tables are Markdown.
//!
//! `BENCH_OTHER_MODULE`, another build of the policy, takes turns with the two, and has a table of its own beside this one.
//! `BENCH_CASES` is part of the names of those cases that are to be measured.

use std::env;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Host, Manifests, Verdict, modules};
use serde_json::{Value, json};

/// How long the modules take turns at one case, and how often they do so at least.
const TIME: Duration = Duration::from_secs(4);
const ROUNDS: usize = 30;

struct Case {
    name: String,
    settings: Value,
    pod: Value,
    secrets: Vec<Value>,
    verdict: Verdict,
    /// The most that `validate` should take, the yardstick's being 1.
    aim: Option<f64>,
    /// Whether the case is the one before it, ten times larger.
    grown: bool,
}

#[derive(Clone, Copy)]
struct Cost {
    start: Duration,
    validate: Duration,
    /// The part of `validate` in which the host answers. The yardstick asks nothing.
    answering: Duration,
}

/// The medians of one case.
struct Row {
    name: String,
    aim: Option<f64>,
    grown: bool,
    policy: Cost,
    yardstick: Cost,
    other: Option<Cost>,
}

fn main() {
    let (policy_module, yardstick_module) = (modules::policy_module(), modules::yardstick_module());
    let other_module =
        env::var_os("BENCH_OTHER_MODULE").map(|path| std::fs::read(path).expect("BENCH_OTHER_MODULE is a file"));
    let load = |module: &[u8]| Host::load(module, modules::metadata()).expect("the module loads");
    let (policy, yardstick) = (load(&policy_module), load(&yardstick_module));
    let other = other_module.as_deref().map(load);

    assert_the_yardstick_appends_one_entry(&yardstick);

    println!("| case | start | yardstick | ratio | validate | of it host | yardstick | ratio | aim | ×10 costs |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let only = env::var("BENCH_CASES").unwrap_or_default();
    let mut rows = Vec::new();
    for case in cases().into_iter().filter(|case| case.name.contains(&only)) {
        let row = measure(&case, &policy, &yardstick, other.as_ref());
        print_beside_the_yardstick(&row, rows.last());
        rows.push(row);
    }
    println!("\nModules: policy {} bytes, yardstick {} bytes.", policy_module.len(), yardstick_module.len());
    if let Some(other_module) = other_module {
        print_beside_the_other(&rows);
        println!("\nThe other build: {} bytes.", other_module.len());
    }
}

fn print_beside_the_yardstick(row: &Row, before: Option<&Row>) {
    let Row { name, aim, grown, policy, yardstick, .. } = row;
    let growth =
        before.filter(|_| *grown).map(|before| format!("×{:.1}", ratio(policy.validate, before.policy.validate)));
    println!(
        "| {name} | {} | {} | {:.2} | {} | {} | {} | {:.2} | {} | {} |",
        microseconds(policy.start),
        microseconds(yardstick.start),
        ratio(policy.start, yardstick.start),
        microseconds(policy.validate),
        microseconds(policy.answering),
        microseconds(yardstick.validate),
        ratio(policy.validate, yardstick.validate),
        aim.map(|aim| format!("{aim:.2}")).unwrap_or_default(),
        growth.unwrap_or_default(),
    );
}

fn print_beside_the_other(rows: &[Row]) {
    println!("\n| case | start | the other | ratio | validate | the other | ratio |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for Row { name, policy, other, .. } in rows {
        let Some(other) = other else { continue };
        println!(
            "| {name} | {} | {} | {:.2} | {} | {} | {:.2} |",
            microseconds(policy.start),
            microseconds(other.start),
            ratio(policy.start, other.start),
            microseconds(policy.validate),
            microseconds(other.validate),
            ratio(policy.validate, other.validate),
        );
    }
}

/// What is measured beside the policy does the same edit.
fn assert_the_yardstick_appends_one_entry(yardstick: &Host) {
    let mut object = pod(0);
    object["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
    let request = AdmissionRequest::create(object, 0).expect("the Pod is a manifest");
    let evaluation = yardstick.evaluate(&json!({}), &request, &Cluster::Absent);
    assert_eq!(
        json!(evaluation.response.operations()),
        json!([{"op": "add", "path": "/spec/imagePullSecrets/1", "value": {"name": "registry-credentials"}}])
    );
}

fn cases() -> Vec<Case> {
    let one = json!({"secrets": [{"name": "registry-credentials"}]});
    let usual = vec![secret("registry-credentials", &["registry.example.com"])];
    let case = |name: &str, pod: Value, verdict: Verdict, aim: f64| Case {
        name: name.to_owned(),
        settings: one.clone(),
        pod,
        secrets: usual.clone(),
        verdict,
        aim: Some(aim),
        grown: false,
    };
    let mut listed = pod(0);
    listed["spec"]["imagePullSecrets"] = json!([{"name": "registry-credentials"}]);
    let mut cases = vec![
        case("no-op: the secret is listed", listed, Verdict::Accepted, 0.35),
        case("one secret injected", pod(0), Verdict::Mutated, 0.5),
        Case {
            settings: json!({"secrets": [{"name": "registry-credentials"}], "onMissingSecret": "ignore"}),
            aim: None,
            ..case("the same under onMissingSecret: ignore", pod(0), Verdict::Mutated, 0.0)
        },
        Case {
            settings: json!({"secrets": secrets_for_some_images(100)}),
            aim: None,
            ..case("100 secrets, each for 10 patterns of globs, 30 images", pod_with_images(30), Verdict::Accepted, 0.0)
        },
        Case {
            settings: json!({"secrets": [{"name": "registry-credentials", "matchCredentials": true}]}),
            secrets: vec![secret("registry-credentials", &registries(50))],
            aim: None,
            ..case("matchCredentials, 50 registries", pod(0), Verdict::Mutated, 0.0)
        },
        case("Pod of 25 KB", pod(25_000), Verdict::Mutated, 0.5),
        Case { grown: true, ..case("Pod of 250 KB", pod(250_000), Verdict::Mutated, 0.35) },
        Case { grown: true, ..case("Pod of 2.5 MB", pod(2_500_000), Verdict::Mutated, 0.35) },
    ];
    // Nobody's registries, so that each credential is looked up for each image.
    let credentials_of = |registry: fn(usize) -> String, images: usize| Case {
        settings: json!({"secrets": [{"name": "registry-credentials", "matchCredentials": true}]}),
        secrets: vec![as_large_as_secrets_get(registry)],
        pod: pod_with_images(images),
        aim: None,
        ..case("", pod(0), Verdict::Accepted, 0.0)
    };
    cases.extend([
        Case {
            name: "matchCredentials, 1 MiB of registries, 30 images".to_owned(),
            ..credentials_of(|number| format!("registry-{number}.example.org/team"), 30)
        },
        Case {
            name: "the same, 300 images".to_owned(),
            ..credentials_of(|number| format!("registry-{number}.example.org/team"), 300)
        },
        Case {
            name: "the same in globs, 30 images".to_owned(),
            // More than can be matched in time counts as covering.
            verdict: Verdict::Mutated,
            ..credentials_of(|number| format!("*.e*{number}.com"), 30)
        },
    ]);
    for count in [10, 100, 1_000] {
        let names: Vec<String> = (0..count).map(|number| format!("registry-credentials-{number}")).collect();
        cases.push(Case {
            name: format!("{count} secrets injected"),
            settings: json!({"secrets": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()}),
            secrets: names.iter().map(|name| secret(name, &["registry.example.com"])).collect(),
            aim: None,
            grown: count > 10,
            ..case("", pod(0), Verdict::Mutated, 0.0)
        });
    }
    cases
}

/// Configured secrets with patterns that none of the Pods' images matches.
fn secrets_for_some_images(count: usize) -> Vec<Value> {
    let patterns = |number: usize| -> Vec<_> {
        (0..10).map(|region| format!("{number}.dkr.ecr.*-{region}.amazonaws.*/team")).collect()
    };
    (0..count).map(|number| json!({"name": format!("ecr-{number}"), "matchImages": patterns(number)})).collect()
}

/// Registries of which the last one is the Pod's.
fn registries(count: usize) -> Vec<&'static str> {
    let others = (1..count).map(|number| &*format!("registry-{number}.example.org/team").leak());
    others.chain(["registry.example.com"]).collect()
}

fn secret(name: &str, registries: &[&str]) -> Value {
    let auth = STANDARD.encode("robot:not-a-real-password");
    let auths: serde_json::Map<_, _> =
        registries.iter().map(|&registry| (registry.to_owned(), json!({"auth": auth}))).collect();
    let config = STANDARD.encode(json!({"auths": auths}).to_string());
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": "shop"}, "data": {".dockerconfigjson": config}})
}

/// A Pod of two containers, brought to at least this many bytes of JSON by environment variables.
fn pod(bytes: usize) -> Value {
    let mut env = Vec::new();
    let mut length = 0;
    while length < bytes {
        let variable =
            json!({"name": format!("SETTING_{}", env.len()), "value": "a value with \"quotes\", and é besides"});
        length += variable.to_string().len() + 1;
        env.push(variable);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "serviceAccountName": "default",
            "containers": [
                {"name": "web", "image": "registry.example.com/shop/web:1.4", "env": env,
                    "ports": [{"containerPort": 8080}], "resources": {"limits": {"memory": "128Mi"}}},
                {"name": "proxy", "image": "registry.example.com/infra/proxy:2@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    "args": ["--port", "8443"], "volumeMounts": [{"name": "certificates", "mountPath": "/certificates"}]},
            ],
            "volumes": [{"name": "certificates", "secret": {"secretName": "certificates"}}],
        },
    })
}

/// A Secret of as many registries as an API server stores in one. No credential is shorter than these.
fn as_large_as_secrets_get(registry: fn(usize) -> String) -> Value {
    let mut config = r#"{"auths":{"#.to_owned();
    for number in 0.. {
        let entry = format!("{}\"{}\":{{}}", if number == 0 { "" } else { "," }, registry(number));
        if config.len() + entry.len() + 2 > 1 << 20 {
            break;
        }
        config.push_str(&entry);
    }
    config.push_str("}}");
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "registry-credentials", "namespace": "shop"},
        "data": {".dockerconfigjson": STANDARD.encode(config)}})
}

/// A Pod of as many images, each of a registry of its own.
fn pod_with_images(count: usize) -> Value {
    let container =
        |number| json!({"name": format!("c{number}"), "image": format!("r{number}.example.com/shop/web:1.4")});
    let mut pod = pod(0);
    pod["spec"]["containers"] = (0..count).map(container).collect();
    pod
}

/// Has the modules take turns.
fn measure(case: &Case, policy: &Host, yardstick: &Host, other: Option<&Host>) -> Row {
    let manifests = case.secrets.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
    let cluster = Cluster::of(Manifests::parse(&manifests).expect("the Secrets are manifests"));
    let request = AdmissionRequest::create(case.pod.clone(), 0).expect("the Pod is a manifest");
    for policy in [Some(policy), other].into_iter().flatten() {
        let evaluation = policy.evaluate(&case.settings, &request, &cluster);
        assert_eq!(evaluation.verdict(), case.verdict, "{}: {:?}", case.name, evaluation.response);
        assert_eq!(evaluation.response.warnings, None, "{}", case.name);
    }

    let payload = json!({"request": request, "settings": case.settings}).to_string();
    let hosts: Vec<_> = [policy, yardstick].into_iter().chain(other).collect();
    let mut costs = vec![Vec::new(); hosts.len()];
    let begin = Instant::now();
    while costs[0].len() < ROUNDS || begin.elapsed() < TIME {
        for (host, costs) in hosts.iter().zip(&mut costs) {
            let call = host.call("validate", payload.as_bytes(), &cluster);
            call.answer.expect("the module answers");
            costs.push(Cost { start: call.start, validate: call.run, answering: call.answering });
        }
    }
    Row {
        name: case.name.clone(),
        aim: case.aim,
        grown: case.grown,
        policy: median(&costs[0]),
        yardstick: median(&costs[1]),
        other: costs.get(2).map(|costs| median(costs)),
    }
}

fn median(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> Duration| {
        let mut values: Vec<_> = costs.iter().map(part).collect();
        values.sort();
        values[values.len() / 2]
    };
    Cost { start: of(|cost| cost.start), validate: of(|cost| cost.validate), answering: of(|cost| cost.answering) }
}

fn ratio(value: Duration, unit: Duration) -> f64 {
    value.as_secs_f64() / unit.as_secs_f64()
}

fn microseconds(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}
