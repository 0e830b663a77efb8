//! The yardstick: one entry pushed under `spec.imagePullSecrets` the way the SDK's own examples do it.
//!
//! The payload becomes the SDK's `ValidationRequest`, whose object is a `serde_json::Value`; the edited value goes back
//! through `mutate_request`. It asks the cluster nothing and decides nothing: what the policy costs beside it is what
//! the policy's own way of reading and writing costs.

use kubewarden_policy_sdk::{
    accept_request, mutate_request, protocol_version_guest,
    request::ValidationRequest,
    settings::SettingsValidationResponse,
    wapc_guest::{CallResult, register_function},
};
use serde_json::{Value, json};

/// Called by the host once an instance, before any other call.
#[allow(unsafe_code)] // The name is the waPC contract.
#[unsafe(no_mangle)]
pub extern "C" fn wapc_init() {
    register_function("validate", validate);
    register_function("validate_settings", validate_settings);
    register_function("protocol_version", protocol_version_guest);
}

fn validate(payload: &[u8]) -> CallResult {
    let mut object = ValidationRequest::<Value>::new(payload)?.request.object;
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return accept_request();
    };
    match spec.entry("imagePullSecrets").or_insert_with(|| json!([])) {
        Value::Array(secrets) => secrets.push(json!({"name": "registry-credentials"})),
        _ => return accept_request(),
    }
    mutate_request(object)
}

fn validate_settings(_: &[u8]) -> CallResult {
    Ok(serde_json::to_vec(&SettingsValidationResponse { valid: true, message: None })?)
}
