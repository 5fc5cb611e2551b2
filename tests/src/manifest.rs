//! Manifests as values, for tests that vary one field. (JSON is YAML.)

use serde_json::{Value, json};

/// What keeps a container running and lets it go at once.
pub const FOREVER: &str = "trap 'exit 0' TERM; while true; do sleep 0.2; done";

/// A pod of these containers, that is killed without a period of grace.
#[must_use]
pub fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": containers },
    })
}

/// A container of the toolbox that runs a script.
#[must_use]
pub fn container(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": "toolbox", "command": ["sh", "-c", script] })
}

/// `value` with the fields of `more` put into it, objects into objects.
#[must_use]
pub fn with(mut value: Value, more: Value) -> Value {
    merge(&mut value, more);
    value
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}
