//! A guest that does what its settings tell it to, so that a test of the embedded host can make any host call, any
//! answer and any failure happen.
//!
//! The settings are `{"validate": ORDER, "validateSettings": ORDER}`, both optional: without an order `validate` accepts
//! and any settings are valid.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};
use wapc_guest::{CallResult, host_call, register_function};

#[derive(Deserialize)]
struct Payload {
    settings: Settings,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    object: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    validate: Option<Order>,
    validate_settings: Option<Order>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Order {
    /// Make this host call; the message of the answer is `ok: <answer>` or `error: <text>`.
    HostCall { binding: String, namespace: String, operation: String, payload: Value },
    /// Answer with this text, whatever it is.
    Answer(String),
    /// Answer that the request is accepted with this object.
    Mutate(Value),
    /// Answer with the object of the request, with one more entry in its spec's `imagePullSecrets`; accept what has no spec.
    AddReference(String),
    /// Return an error.
    Fail(String),
    /// Say how often this instance has been told to count.
    Count,
    /// Never end.
    Loop,
    /// Panic.
    Panic,
}

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Called by the host once an instance, before any other call.
#[allow(unsafe_code)] // The name is the waPC contract.
#[unsafe(no_mangle)]
pub extern "C" fn wapc_init() {
    register_function("validate", validate);
    register_function("validate_settings", validate_settings);
    register_function("protocol_version", |_| Ok(br#""v1""#.to_vec()));
    register_function("echo", |payload| Ok(payload.to_vec()));
}

fn validate(payload: &[u8]) -> CallResult {
    let Payload { settings, request } = serde_json::from_slice(payload)?;
    settings.validate.map_or_else(|| accept(json!({})), |order| obey(order, request.object))
}

fn validate_settings(payload: &[u8]) -> CallResult {
    let settings: Settings = serde_json::from_slice(payload)?;
    settings.validate_settings.map_or_else(|| Ok(br#"{"valid":true}"#.to_vec()), |order| obey(order, None))
}

fn obey(order: Order, object: Option<Value>) -> CallResult {
    match order {
        Order::HostCall { binding, namespace, operation, payload } => {
            match host_call(&binding, &namespace, &operation, &serde_json::to_vec(&payload)?) {
                Ok(answer) => accept(json!({"message": format!("ok: {}", String::from_utf8_lossy(&answer))})),
                Err(error) => accept(json!({"message": format!("error: {error}")})),
            }
        }
        Order::Answer(text) => Ok(text.into_bytes()),
        Order::Mutate(object) => accept(json!({"mutated_object": object})),
        Order::AddReference(name) => accept(object.and_then(|object| referring(object, name)).unwrap_or(json!({}))),
        Order::Fail(text) => Err(text.into()),
        Order::Count => accept(json!({"message": (CALLS.fetch_add(1, Ordering::Relaxed) + 1).to_string()})),
        Order::Loop => loop {
            std::hint::spin_loop();
        },
        Order::Panic => panic!("told to"),
    }
}

fn referring(mut object: Value, name: String) -> Option<Value> {
    let list = object.get_mut("spec")?.as_object_mut()?.entry("imagePullSecrets").or_insert_with(|| json!([]));
    list.as_array_mut()?.push(json!({"name": name}));
    Some(json!({"mutated_object": object}))
}

fn accept(mut response: Value) -> CallResult {
    response["accepted"] = json!(true);
    Ok(serde_json::to_vec(&response)?)
}
