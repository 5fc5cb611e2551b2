//! Manifests that are made to exhaust whoever reads them: what is said, and how much of it. How much memory reading them
//! takes is measured by the end-to-end test `bad_input`.

use bundles::manifest::{Manifest, ParseOptions, Problem, Problems, Source, parse};

/// Most problems of one severity that one document can have, the last of which says that there are more.
const MOST: usize = 1001;

fn read(text: &str) -> Result<Manifest, Problems> {
    parse(&[Source { name: "m".to_owned(), text: text.to_owned() }], &ParseOptions::default())
}

fn errors(text: &str) -> Vec<Problem> {
    read(text).expect_err("it should be refused").errors
}

/// The only error.
fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{}", errors.iter().take(5).map(|e| format!("{e}\n")).collect::<String>());
    errors[0].to_string()
}

/// A pod of one container, with more in its spec and its container, as JSON.
fn pod(spec: &str, container: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p"}}, "spec": {{{spec} "containers": [{{"name": "a", "image": "x:1" {container}}}]}}}}"#)
}

fn join(count: usize, separator: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(separator)
}

#[test]
fn aliases_do_not_explode() {
    let laughs = |item: &str| {
        let first = format!("a0: &a0 [{}]\n", [item; 10].join(", "));
        (1..10).fold(first, |text, level| format!("{text}a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")))
    };
    assert!(error(&laughs("lol")).contains("aliases expand too far"));
    assert!(error(&laughs("{a: b}")).contains("aliases expand too far"));
    // Few nodes, much text.
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    assert!(error(&text).contains("aliases expand too far"));
    // Merged, and as keys.
    let merged = (1..12).fold("a0: &a0 {k0: v}\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} {{<<: [{}]}}\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    errors(&merged);
    // Rings have no end.
    for ring in ["a: &a [*a]", "&a [*a, *a]", "a: &a {b: {c: *a}}", "a: &a {<<: *a}", "a: *b\nb: &b x", "? &a [*a]\n: x"] {
        let said = error(ring);
        assert!(said.starts_with("m:"), "{ring}: {said}");
    }
}

#[test]
fn depth_ends_early_in_every_notation() {
    let lines = |step: &str| (0..5000).map(|n| format!("{}{step}\n", " ".repeat(n))).collect::<String>();
    // The main thread's stack: a test's own is a quarter of it.
    let check = |text: String| std::thread::Builder::new().stack_size(8 << 20).spawn(move || error(&text)).expect("a thread").join().expect("no panic");
    for text in ["[".repeat(100_000), "{".repeat(100_000), "{a: ".repeat(100_000), "[[{".repeat(30_000), "- ".repeat(100_000), "? ".repeat(100_000), "!!x ".repeat(100_000), lines("a:"), lines("-")] {
        let said = check(text);
        assert!(said.starts_with("m:") && said.len() < 300, "{said}");
    }
}

#[test]
fn text_that_is_none_is_refused_at_its_place() {
    for (text, place) in [("apiVersion: v1\nkind: \0Pod\n", "m:2:"), ("a: \"\u{1}\"", "m:1:"), ("\u{fffe}", "m:"), ("a: b\n\u{feff}c: d", "m:")] {
        let said = error(text);
        assert!(said.starts_with(place), "{text:?}: {said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    // A byte order mark at the start is what editors on Windows put there.
    assert_eq!(read(&format!("\u{feff}{}", pod("", ""))).expect("a pod").pods.len(), 1);
    // Keys are printed, too.
    let found = errors(&pod("", r#", "env": [{"name": "A\u0000", "value": "\u001b[2J\u0000"}], "\u0000\u001b[2J\n": 1"#));
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|e| e.message.contains("NUL") && !e.to_string().contains(char::is_control)), "{found:?}");
}

#[test]
fn duplicate_keys_are_refused() {
    for text in ["a: 1\na: 2", "{\"kind\": \"Pod\", \"kind\": \"List\"}", "a: {b: 1, c: 2, b: 3}", "? a\n: 1\n? 'a'\n: 2"] {
        assert!(error(text).contains("duplicate"), "{text}: {}", error(text));
    }
}

#[test]
fn many_of_everything() {
    assert!(error(&"---\na: b\n".repeat(100_000)).contains("too large"));
    assert!(error(&"---\n".repeat(100_000)).starts_with("m"));
    let containers = |count| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: [{}]\n", join(count, ",", |n| format!("{{name: c{n}}}")));
    assert!(error(&containers(100_000)).contains("too large"));
    assert!(error(&containers(50_000)).ends_with("spec.containers: 50000 containers: at most 1000 can be in one pod"));
    assert_eq!(errors(&containers(1000)).len(), 1000, "each has no image");
    let big = "9".repeat(1 << 20);
    assert!(error(&pod(&format!("\"terminationGracePeriodSeconds\": {big},"), "")).len() < 600);
}

#[test]
fn forty_thousand_problems_are_a_thousand() {
    let unknown = read(&pod(&format!("{},", join(40_000, ",", |n| format!("\"containerz{n}\": 1"))), "")).expect("unknown fields are warnings");
    assert_eq!(unknown.warnings.len(), MOST);
    assert!(unknown.warnings.last().expect("the last").message.contains("there is more to say"), "{}", unknown.warnings[MOST - 1]);
    let wrong = errors(&pod("", &format!(", \"args\": [{}]", join(40_000, ",", |_| "1".to_owned()))));
    assert_eq!(wrong.len(), MOST);
    // Each error could name all there are, or be compared with all there are.
    let mounts = join(20_000, ",", |n| format!("{{\"name\": \"w{n}\", \"mountPath\": \"/w{n}\"}}"));
    let volumes = join(20_000, ",", |n| format!("{{\"name\": \"v{n}\"}}"));
    let text = pod(&format!("\"volumes\": [{volumes}],"), &format!(", \"volumeMounts\": [{mounts}]"));
    let found = errors(&text);
    assert_eq!(found.len(), MOST);
    assert!(found.iter().all(|e| e.to_string().len() < 400), "{}", found[0]);
    let ports = join(20_000, ",", |n| format!("{{\"containerPort\": 80, \"hostPort\": 80, \"hostIP\": \"10.0.{}.{}\"}}", n / 256, n % 256));
    assert_eq!(read(&pod("", &format!(", \"ports\": [{ports}]"))).expect("one address each").pods[0].plan.containers[0].host_ports.len(), 20_000);
    let labels = join(20_000, ",", |n| format!("\"-{n}\": \"-\""));
    let labelled = read(&pod("", "").replace(r#""name": "p""#, &format!(r#""name": "p", "labels": {{{labels}}}"#))).expect("warnings");
    assert_eq!(labelled.warnings.len(), MOST);
}

#[test]
fn the_same_port_on_all_addresses_and_on_one_is_found_in_both_orders() {
    let ports = |first: &str, second: &str| pod("", &format!(r#", "ports": [{{"containerPort": 1, "hostPort": 80{first}}}, {{"containerPort": 2, "hostPort": 80{second}}}]"#));
    let (all, any, one, other) = ("", r#", "hostIP": "0.0.0.0""#, r#", "hostIP": "127.0.0.1""#, r#", "hostIP": "127.0.0.2""#);
    for (first, second) in [(all, all), (all, one), (one, all), (any, one), (one, any), (one, one)] {
        assert!(error(&ports(first, second)).ends_with("80 is already used by spec.containers[0].ports[0].hostPort"), "{first} {second}");
    }
    for (first, second) in [(one, other), (other, one), (all, r#", "protocol": "UDP""#)] {
        read(&ports(first, second)).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn long_keys_with_much_below_them_cost_no_more_than_they_are() {
    let children = join(50_000, ",", |n| format!("\"k{n}\": \"\\u0000\""));
    let text = format!("? {}\n: {{? {} : {{{children}}}}}\n", "x".repeat(4 << 20), "y".repeat(4 << 20));
    let found = errors(&text);
    assert_eq!(found.len(), MOST);
    assert!(found.iter().all(|e| e.to_string().len() < 400));
}

#[test]
fn variables_that_refer_to_each_other_do_not_explode() {
    let chain = |count: usize, times: usize| {
        let first = r#"{"name": "A0", "value": "0123456789"}"#.to_owned();
        let more = (1..count).map(|n| format!(r#"{{"name": "A{n}", "value": "{}"}}"#, format!("$(A{})", n - 1).repeat(times)));
        std::iter::once(first).chain(more).collect::<Vec<_>>().join(",")
    };
    let env = |env: &str| pod("", &format!(", \"env\": [{env}]"));
    assert!(error(&env(&chain(10_000, 2))).contains("spec.containers[0].env[14].value: has more than 131071 bytes once expanded"));
    // Each fits, all do not.
    let flat = format!(r#"{{"name": "X", "value": "{}"}},{}"#, "x".repeat(100_000), join(1000, ",", |n| format!(r#"{{"name": "B{n}", "value": "$(X)"}}"#)));
    assert!(error(&env(&flat)).contains("brings command, args and env over 6291456 bytes"));
    for (field, words) in [("command", "spec.containers[0].command[0]: has more than"), ("args", "spec.containers[0].args[0]: has more than")] {
        let word = "$(X)".repeat(1000);
        let text = pod("", &format!(r#", "env": [{{"name": "X", "value": "{}"}}], "{field}": ["{word}"]"#, "x".repeat(1000)));
        assert!(error(&text).contains(words), "{}", error(&text));
    }
    // Ten thousand that refer to the one before, and words that refer to what is not there, are fine.
    assert_eq!(read(&env(&chain(10_000, 1))).expect("a chain").pods[0].plan.containers[0].env.len(), 10_000);
    assert!(error(&pod("", &format!(r#", "args": ["{}"]"#, "$(".repeat(4 << 20)))).contains("has more than 131071 bytes"));
}

#[test]
fn copies_of_templates_have_a_bound() {
    let workload = |name: &str, replicas: u32, padding: usize| {
        let template = format!(r#"{{"metadata": {{"annotations": {{"x": "{}"}}}}, "spec": {{"containers": [{{"name": "a", "image": "x"}}]}}}}"#, "x".repeat(padding));
        format!(r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}"}}, "spec": {{"replicas": {replicas}, "template": {template}}}}}"#)
    };
    let said = error(&workload("d", 250, 4 << 20));
    assert!(said.contains("spec.replicas: 250 copies of this template are too much"), "{said}");
    let all = join(1000, "\n---\n", |n| workload(&format!("d{n}"), 250, 0));
    assert!(errors(&all).iter().all(|e| e.message.contains("are too much")), "small ones, but many");
    assert_eq!(read(&join(8, "\n---\n", |n| workload(&format!("d{n}"), 250, 1000))).expect("an honest number").pods.len(), 2000);
}

#[test]
fn numbers_and_quantities_out_of_range() {
    for number in ["9223372036854775808", "-9223372036854775809", "1e400", "-.inf", ".nan", "0x10000000000000000", "99999999999999999999999999"] {
        let said = error(&pod(&format!("\"terminationGracePeriodSeconds\": {number},"), ""));
        assert!(said.starts_with("m:1:") && said.contains(['9', '1', 'i', 'n']), "{number}: {said}");
    }
    for port in ["65536", "-1", "4294967376", "80.5"] {
        let said = error(&pod("", &format!(r#", "ports": [{{"containerPort": {port}}}]"#)));
        assert!(said.contains("containerPort"), "{port}: {said}");
    }
    for quantity in ["1e999999999", "1e-999999999", "1E99999999999999999999", "-1", "9223372036854775808", "8Ei", "0x10", "1e", ".", "1.1.1", "NaN", "Infinity"] {
        for name in ["cpu", "memory"] {
            let said = error(&pod("", &format!(r#", "resources": {{"limits": {{"{name}": "{quantity}"}}}}"#)));
            assert!(said.contains(&format!("resources.limits.{name}")), "{quantity}: {said}");
        }
    }
    let digits = "1".repeat(1 << 20);
    for quantity in [digits.clone(), format!("0.{digits}"), format!("1e{digits}"), format!("0.{}1", "0".repeat(1 << 20))] {
        let text = pod("", &format!(r#", "resources": {{"limits": {{"memory": "{quantity}"}}}}"#));
        if let Err(problems) = read(&text) {
            assert!(problems.to_string().len() < 400);
        }
    }
}
