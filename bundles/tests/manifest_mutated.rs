//! Whatever is done to a manifest, parsing ends, soon, and every problem is in the text.

use std::time::{Duration, Instant};

use bundles::manifest::{ParseOptions, Source, parse};
use proptest::prelude::*;

const SEED: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}, annotations: {a/b: "c"}}
spec:
  restartPolicy: Always
  hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]
  volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: h, hostPath: {path: /x, type: Directory}}]
  containers:
  - &base
    name: a
    image: x:1
    command: [sh, -c, "echo $(A) $$(B)"]
    env: [{name: A, value: "1"}]
    ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1, protocol: TCP}]
    volumeMounts: [{name: v, mountPath: /v, subPath: a/b, readOnly: true}]
    resources: {limits: {cpu: 500m, memory: 128Mi}}
    securityContext: {runAsUser: 1, capabilities: {add: [NET_ADMIN], drop: [ALL]}}
  - <<: *base
    name: b
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {replicas: 2, template: {spec: {containers: [{name: a, image: x}]}}}
"#;

/// What replaces a piece of the text.
const PIECES: &[&str] = &[
    "", "\n", "  ", ":", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: *base", "!!int ", "|", ">", "\"", "'", "#", "---\n", "...\n",
    "~", "null", "-1", "0", "99999999999999999999", "1e999", ".nan", "0x7f", "true", "\u{0}", "\u{feff}", "\t", "🦀", "../..", "/",
    "$(", "80", "1Gi", "?", "%YAML 1.1\n", "kind: List\nitems: ", "[[[[[[[[[[[[[[[[", "{a: {a: {a: {a: {a: ",
];

fn check(text: &str) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let source = Source { name: "x".to_owned(), text: text.to_owned() };
    // A carriage return ends a line as well (YAML 1.2, 5.4).
    let lines = text.split(['\n', '\r']).count() as u64;
    for strict in [false, true] {
        let problems = match parse(std::slice::from_ref(&source), &ParseOptions { strict }) {
            Ok(manifest) => {
                for pod in &manifest.pods {
                    prop_assert!(!pod.plan.name.is_empty() && !pod.plan.containers.is_empty());
                    prop_assert!(pod.plan.containers.iter().all(|c| !c.name.contains('/') && c.mounts.iter().all(|m| m.mount_path.is_absolute())));
                }
                manifest.warnings
            }
            Err(problems) => {
                prop_assert!(!problems.errors.is_empty());
                problems.errors.into_iter().chain(problems.warnings).collect()
            }
        };
        for problem in problems {
            prop_assert!(problem.line <= lines + 1, "{} of {lines} lines", problem);
        }
    }
    prop_assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_manifest_is_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..24, prop::sample::select(PIECES)), 1..5)
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, length, piece) in edits {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        check(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        check(&text)?;
    }

    #[test]
    fn any_quantity_is_read_or_refused(number in "[-+]?[0-9.]{0,45}", suffix in "[a-zA-Z]{0,3}[-+0-9]{0,4}") {
        let text = format!("{number}{suffix}");
        if let (Ok(units), Ok(milli)) = (bundles::manifest::quantity::units(&text), bundles::manifest::quantity::milli(&text)) {
            // Both round up: the thousandths are never more than the units say.
            prop_assert!(u128::from(milli) <= u128::from(units) * 1000);
            prop_assert!(u128::from(milli) + 1000 > u128::from(units) * 1000);
        }
    }
}
