//! Walks a pod as written beside the table of fields and says what is not honoured.

use std::collections::BTreeSet;

use super::fields::{self, Field, Verdict};
use super::path;
use super::report::Report;
use super::tree::{Node, Value, shortened};

/// Where the token of the service account is mounted in every pod exported from a cluster.
pub(super) const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reports every field of the pod at `base` that is not honoured.
pub(super) fn check(pod: &Node, base: &str, report: &mut Report<'_>) {
    let mounted = mounted_volumes(pod);
    let mut walk = Walk { table: fields::POD, mounted: &mounted, report };
    walk.node(pod, "", base);
}

struct Walk<'a, 'r> {
    table: &'static [Field],
    mounted: &'a BTreeSet<&'a str>,
    report: &'a mut Report<'r>,
}

impl Walk<'_, '_> {
    fn node(&mut self, node: &Node, pattern: &str, at: &str) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    let pattern = path::field(pattern, &entry.key);
                    let at = path::field(at, &entry.key);
                    self.field(node, &entry.node, &pattern, &at);
                }
            }
            Value::Seq(items) => {
                let containers = self.table.len() == fields::POD.len() && is_containers(pattern);
                for (index, item) in items.iter().enumerate() {
                    let at = path::element(at, index);
                    if containers {
                        Walk { table: fields::CONTAINER, mounted: self.mounted, report: self.report }.node(item, "", &at);
                    } else {
                        self.node(item, &format!("{pattern}[]"), &at);
                    }
                }
            }
            _ => {}
        }
    }

    /// `parent` is the map that has the field, `node` its value.
    fn field(&mut self, parent: &Node, node: &Node, pattern: &str, at: &str) {
        if matches!(node.value, Value::Null) {
            return;
        }
        // Without an entry it is an unknown field, which the types have reported.
        let Some(verdict) = fields::verdict(self.table, pattern) else { return };
        match verdict {
            Verdict::Supported | Verdict::Partly(_) | Verdict::Silent => {}
            Verdict::Fields => self.node(node, pattern, at),
            Verdict::Cluster(why) if !node.is_empty() => self.report.note(at, format!("has no effect on one host: {why}")),
            Verdict::Warn(why) if !node.is_empty() => self.ignored(at, why),
            Verdict::WarnUnless(default, why) if node.value.scalar_text().is_none_or(|text| text != default) => {
                self.ignored(at, why);
            }
            Verdict::Warn(_) | Verdict::WarnUnless(..) | Verdict::Cluster(_) => {}
            Verdict::Refuse(why) => {
                if !matches!(&node.value, Value::Seq(items) if items.is_empty()) {
                    self.report.error(at, why);
                }
            }
            Verdict::Volume(why) => {
                if parent.text("name").is_some_and(|name| self.mounted.contains(name)) {
                    self.report.error(at, why);
                } else {
                    self.report.warn(at, format!("{why}; no container mounts it, ignored"));
                }
            }
        }
    }

    fn ignored(&mut self, at: &str, why: &str) {
        self.report.warn(at, format!("not supported yet by minipod, ignored: {why}"));
    }
}

fn is_containers(pattern: &str) -> bool {
    matches!(pattern, "spec.containers" | "spec.initContainers")
}

/// The names of all volumes that a container mounts, but for the token of a service account, which is left out.
fn mounted_volumes(pod: &Node) -> BTreeSet<&str> {
    let spec = pod.get("spec");
    ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| items(spec?.get(list)?))
        .flatten()
        .filter_map(|container| items(container.get("volumeMounts")?))
        .flatten()
        .filter(|mount| mount.text("mountPath") != Some(TOKEN_DIR))
        .filter_map(|mount| mount.text("name"))
        .collect()
}

fn items(node: &Node) -> Option<&[Node]> {
    match &node.value {
        Value::Seq(items) => Some(items),
        _ => None,
    }
}

/// Reports every string with a NUL byte: none of the kernel's interfaces takes it.
///
/// `at` is the node's path. Keys are shortened in it: they may be long, and what is below them much.
pub(super) fn check_nul(node: &Node, at: &mut String, report: &mut Report<'_>) {
    let above = at.len();
    match &node.value {
        Value::String(text) if text.contains('\0') => report.error_at(node.at, at, NUL),
        Value::Seq(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push_str(&path::element("", index));
                check_nul(item, at, report);
                at.truncate(above);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                path::push_field(at, &shortened(&entry.key));
                if entry.key.contains('\0') {
                    report.error_at(entry.at, at, NUL);
                }
                check_nul(&entry.node, at, report);
                at.truncate(above);
            }
        }
        _ => {}
    }
}

const NUL: &str = "must not hold a NUL byte";
