//! What a manifest becomes, and what is said about a bad one: file, line, column, path, words.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageConfig};
use bundles::manifest::{Manifest, ParseOptions, Problems, Severity, Source, parse, publish, publish_all};
use bundles::plan::{
    HostPathKind, HostPort, IpcMode, NetworkMode, PidMode, PodPlan, Protocol, PullPolicy, RestartPolicy, RootSource,
    SeccompProfile, VolumeSource,
};

fn source(text: &str) -> Source {
    Source { name: "web.yaml".to_owned(), text: text.to_owned() }
}

fn read(text: &str, strict: bool) -> Result<Manifest, Problems> {
    parse(&[source(text)], &ParseOptions { strict })
}

fn good(text: &str) -> Manifest {
    read(text, false).unwrap_or_else(|problems| panic!("{problems}"))
}

fn plan(text: &str) -> PodPlan {
    let mut manifest = good(text);
    assert_eq!(manifest.pods.len(), 1);
    manifest.pods.remove(0).plan
}

/// The errors of a text, one a line.
fn errors(text: &str) -> Vec<String> {
    let problems = read(text, false).expect_err("the manifest should be refused");
    problems.errors.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    good(text).warnings.iter().map(ToString::to_string).collect()
}

/// A pod with one container and more lines in its spec and its container.
fn pod(spec: &str, container: &str) -> String {
    let indented = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: a\n    image: x:1\n{}{}",
        indented(container, "    "),
        indented(spec, "  ")
    )
}

/// One error is expected, at a path and with some words.
fn refused(text: &str, path: &str, words: &str) {
    let problems = read(text, false).expect_err(&format!("{path} should be refused in\n{text}"));
    let found = problems.errors.iter().find(|problem| problem.path == path);
    let Some(found) = found else { panic!("nothing about {path} in:\n{problems}\nfor\n{text}") };
    assert!(found.message.contains(words), "{path}: {:?} does not say {words:?}", found.message);
    assert_eq!(problems.errors.len(), 1, "more than one error:\n{problems}");
    assert!(found.line > 0 && found.column > 0, "no place: {found}");
}

#[test]
fn a_minimal_pod_gets_the_defaults_of_the_api_server() {
    let manifest = good(&pod("", ""));
    assert_eq!(manifest.warnings, []);
    let [read] = manifest.pods.as_slice() else { panic!("one pod") };
    let spec = read.pod.spec.as_ref().expect("spec");
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(read.pod.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(read.pod.metadata.uid.as_deref(), Some(read.plan.uid.as_str()));
    assert_eq!(read.plan.uid.len(), 36);
    let plan = &read.plan;
    assert_eq!((plan.name.as_str(), plan.namespace.as_str(), plan.hostname.as_str()), ("web", "default", "web"));
    assert_eq!((plan.restart_policy, plan.grace_seconds), (RestartPolicy::Always, 30));
    assert_eq!((plan.network, plan.ipc, plan.pid), (NetworkMode::Pod, IpcMode::Pod, PidMode::Container));
    let [container] = plan.containers.as_slice() else { panic!("one container") };
    assert_eq!((container.pull_policy, &container.root), (PullPolicy::IfNotPresent, &RootSource::Reference));
    assert_eq!((&container.command, &container.args), (&None, &None));
    assert!(container.security.allow_privilege_escalation && !container.security.privileged);
}

#[test]
fn every_field_of_the_plan_is_filled() {
    let plan = plan(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: lab, labels: {app: web}, annotations: {note: hello}}
spec:
  hostname: shop
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  shareProcessNamespace: true
  hostIPC: true
  hostAliases: [{ip: 10.0.0.1, hostnames: [db, db.local]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [1.1.1.1], searches: [lab.local], options: [{name: ndots, value: "2"}, {name: edns0}]}
  securityContext: {runAsUser: 1000, runAsGroup: 1001, runAsNonRoot: true, supplementalGroups: [7, 8]}
  volumes:
  - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
  - {name: host, hostPath: {path: /srv, type: DirectoryOrCreate}}
  - {name: plain}
  initContainers: [{name: prepare, image: toolbox, command: [true, "x"]}]
  containers:
  - name: a
    image: nginx
    imagePullPolicy: Never
    command: [sh, -c]
    args: ["echo $(X)"]
    workingDir: /work
    env: [{name: X, value: "1"}, {name: Y}]
    stdin: true
    tty: true
    ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}, {containerPort: 53, protocol: UDP}]
    volumeMounts: [{name: scratch, mountPath: /scratch/}, {name: host, mountPath: /host, readOnly: true, subPath: a/b}]
    resources: {limits: {cpu: 500m, memory: 128Mi}, requests: {cpu: 0.25}}
    securityContext:
      runAsUser: 2000
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {add: [NET_ADMIN, cap_net_raw], drop: [ALL]}
      seccompProfile: {type: Localhost, localhostProfile: profiles/a.json}
"#
        .replace("[true, \"x\"]", "[\"true\", \"x\"]")
        .as_str(),
    );
    assert_eq!((plan.hostname.as_str(), plan.namespace.as_str()), ("shop", "lab"));
    assert_eq!((plan.restart_policy, plan.grace_seconds), (RestartPolicy::OnFailure, 5));
    assert_eq!((plan.ipc, plan.pid), (IpcMode::Host, PidMode::Pod));
    assert_eq!(plan.host_aliases[0].hostnames, ["db", "db.local"]);
    assert!(!plan.dns.inherit_host);
    assert_eq!(plan.dns.options, ["ndots:2", "edns0"]);
    assert_eq!(plan.volumes["scratch"], VolumeSource::EmptyDir { memory: true, size_limit: Some(64 << 20) });
    assert_eq!(plan.volumes["host"], VolumeSource::HostPath { path: "/srv".into(), kind: HostPathKind::DirectoryOrCreate });
    assert_eq!(plan.volumes["plain"], VolumeSource::EmptyDir { memory: false, size_limit: None });
    assert_eq!(plan.init_containers[0].name, "prepare");
    let a = &plan.containers[0];
    assert_eq!(a.pull_policy, PullPolicy::Never);
    assert_eq!(a.env, [("X".to_owned(), "1".to_owned()), ("Y".to_owned(), String::new())]);
    assert_eq!(a.working_dir.as_deref(), Some(Path::new("/work")));
    assert!(a.tty && a.stdin);
    assert_eq!(a.container_ports, [80, 53]);
    let mapping = HostPort {
        host_ip: Some("127.0.0.1".parse::<IpAddr>().expect("an address")),
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    assert_eq!(a.host_ports, [mapping]);
    assert_eq!(a.mounts[0].mount_path, Path::new("/scratch"));
    assert_eq!((a.mounts[1].read_only, a.mounts[1].sub_path.as_deref()), (true, Some(Path::new("a/b"))));
    assert_eq!((a.resources.cpu_limit_milli, a.resources.cpu_request_milli), (Some(500), Some(250)));
    assert_eq!((a.resources.memory_limit, a.resources.memory_request), (Some(128 << 20), Some(128 << 20)));
    let security = &a.security;
    assert_eq!((security.user, security.group, security.non_root), (Some(2000), Some(1001), true));
    assert_eq!(security.supplemental_groups, [7, 8]);
    assert!(security.read_only_root && !security.allow_privilege_escalation);
    assert_eq!(security.capabilities_add, ["NET_ADMIN", "NET_RAW"]);
    assert_eq!(security.capabilities_drop, ["ALL"]);
    assert_eq!(security.seccomp, SeccompProfile::Localhost("profiles/a.json".into()));
    assert_eq!(plan.init_containers[0].security.user, Some(1000), "the pod's user");
}

#[test]
fn an_unknown_field_is_a_warning_with_its_place_and_the_nearest_name() {
    let text = pod("", "imag: y\nports:\n- containerPort: 80\n  hostport: 1");
    assert_eq!(
        warnings(&text),
        [
            "web.yaml:9:5: spec.containers[0].imag: unknown field, did you mean `image`?",
            "web.yaml:12:7: spec.containers[0].ports[0].hostport: unknown field, did you mean `hostPort`?",
        ]
    );
    let problems = read(&text, true).expect_err("strict refuses unknown fields");
    assert_eq!(problems.errors.len(), 2);
    assert_eq!(warnings(&pod("zzz: 1", "")), ["web.yaml:9:3: spec.zzz: unknown field"]);
}

#[test]
fn syntax_errors_have_line_and_column() {
    for (text, place, words) in [
        ("a: b\n  c: [d\n", "web.yaml:2:4: ", "mapping values"),
        ("kind: Pod\nkind: Pod\n", "web.yaml:2:1: ", "duplicate mapping key: kind"),
        ("apiVersion: v1\nkind: *nope\n", "web.yaml:2:7: ", "unknown anchor"),
        ("{\"apiVersion\": \"v1\",\n \"kind\" \"Pod\"}", "web.yaml:2:", ""),
        ("a: \"open", "web.yaml:1:", ""),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(place) && found[0].contains(words), "{text:?}: {}", found[0]);
        assert!(!found[0].contains(" at line "), "the place is said twice: {}", found[0]);
        assert!(!found[0].contains("DuplicateKeyPolicy"), "{}", found[0]);
    }
}

#[test]
fn wrong_types_name_what_was_given_and_what_is_allowed() {
    for (lines, path, words) in [
        ("command: echo hi", "command", "expected a list, found the string \"echo hi\""),
        ("args: [1]", "args[0]", "expected a string, found the number 1; put it in quotes: \"1\""),
        ("args: [x, ~]", "args[1]", "expected a string, found nothing"),
        ("tty: \"true\"", "tty", "expected true or false, found the string \"true\"; take the quotes off"),
        ("env: [{name: A, value: true}]", "env[0].value", "found the boolean true; put it in quotes: \"true\""),
        ("env: [{name: A, value: 1.5}]", "env[0].value", "found the number 1.5"),
        ("env: {A: b}", "env", "expected a list, found a map"),
        ("ports: [{containerPort: http}]", "ports[0].containerPort", "expected a whole number, found the string \"http\""),
        ("ports: [{containerPort: 80.5}]", "ports[0].containerPort", "expected a whole number, found the number 80.5"),
        ("ports: [{containerPort: 99999999999}]", "ports[0].containerPort", "out of range"),
        ("ports: [80]", "ports[0]", "expected a map, found the number 80"),
        ("securityContext: true", "securityContext", "expected a map, found the boolean true"),
        ("resources: {limits: {memory: [1]}}", "resources.limits.memory", "expected a quantity"),
    ] {
        let path = format!("spec.containers[0].{path}");
        let problems = read(&pod("", lines), false).expect_err(lines);
        let found = problems.errors.iter().find(|problem| problem.path == path);
        let found = found.unwrap_or_else(|| panic!("nothing at {path}: {problems}"));
        assert!(found.message.contains(words), "{found}");
        assert!(found.line == 9 && found.column >= 5, "{found}");
    }
}

#[test]
fn values_that_cannot_be_are_refused_in_the_spec() {
    for (lines, path, words) in [
        ("restartPolicy: always", "spec.restartPolicy", "did you mean Always?"),
        ("terminationGracePeriodSeconds: -1", "spec.terminationGracePeriodSeconds", "-1 is negative"),
        ("hostPID: true\nshareProcessNamespace: true", "spec.shareProcessNamespace", "contradicts hostPID"),
        ("hostname: A_b", "spec.hostname", "no host name"),
        ("hostAliases: [{ip: 1.2.3, hostnames: [a]}]", "spec.hostAliases[0].ip", "no IP address"),
        ("hostAliases: [{ip: 1.2.3.4, hostnames: [\"a\\n6.6.6.6 bank\"]}]", "spec.hostAliases[0].hostnames[0]", "no host name"),
        ("dnsPolicy: None", "spec.dnsPolicy", "at least one"),
        ("dnsPolicy: none", "spec.dnsPolicy", "did you mean None?"),
        ("dnsConfig: {nameservers: [a]}", "spec.dnsConfig.nameservers[0]", "no IP address"),
        ("dnsConfig: {searches: [\"a b\"]}", "spec.dnsConfig.searches[0]", "no domain name"),
        ("dnsConfig: {options: [{value: x}]}", "spec.dnsConfig.options[0].name", "missing"),
        ("os: {name: windows}", "spec.os.name", "linux"),
        ("securityContext: {runAsUser: -1}", "spec.securityContext.runAsUser", "out of range"),
        ("securityContext: {supplementalGroups: [4294967296]}", "spec.securityContext.supplementalGroups[0]", "out of range"),
        ("securityContext: {runAsUser: 0, runAsNonRoot: true}", "spec.containers[0].securityContext.runAsNonRoot", "forbids user 0"),
        ("volumes: [{name: v}, {name: v}]", "spec.volumes[1].name", "already used by spec.volumes[0].name"),
        ("volumes: [{emptyDir: {}}]", "spec.volumes[0].name", "missing"),
        ("volumes: [{name: v, emptydir: {}}]", "spec.volumes[0]", "no known source"),
        ("volumes: [{name: v, emptyDir: }]", "spec.volumes[0]", "write `emptyDir: {}`"),
        ("volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]", "spec.volumes[0]", "2 sources"),
        ("volumes: [{name: v, emptyDir: {medium: Disk}}]", "spec.volumes[0].emptyDir.medium", "Memory"),
        ("volumes: [{name: v, emptyDir: {sizeLimit: 1Q}}]", "spec.volumes[0].emptyDir.sizeLimit", "no quantity"),
        ("volumes: [{name: v, image: {pullPolicy: Never}}]", "spec.volumes[0].image.reference", "missing: an image volume names an image"),
        ("volumes: [{name: v, image: {reference: 'a b'}}]", "spec.volumes[0].image.reference", "holds a space"),
        ("volumes: [{name: v, image: {reference: a, pullPolicy: Newer}}]", "spec.volumes[0].image.pullPolicy", "none of Always"),
        ("volumes: [{name: v, hostPath: {path: a}}]", "spec.volumes[0].hostPath.path", "not absolute"),
        ("volumes: [{name: v, hostPath: {path: /a/../b}}]", "spec.volumes[0].hostPath.path", "'..'"),
        ("volumes: [{name: v, hostPath: {}}]", "spec.volumes[0].hostPath.path", "missing"),
        ("volumes: [{name: v, hostPath: {path: /a, type: Dir}}]", "spec.volumes[0].hostPath.type", "DirectoryOrCreate"),
        ("initContainers: [{name: a, image: x}]", "spec.containers[0].name", "already used by spec.initContainers[0].name"),
        ("initContainers: [{name: i, image: x, restartPolicy: Always}]", "spec.initContainers[0].restartPolicy", "sidecars"),
        ("initContainers: [{name: i}]", "spec.initContainers[0].image", "missing"),
        ("resourceClaims: [{name: gpu}]", "spec.resourceClaims", "dynamic resources"),
    ] {
        refused(&pod(lines, ""), path, words);
    }
}

#[test]
fn values_that_cannot_be_are_refused_in_a_container() {
    let volumes = "volumes: [{name: v, emptyDir: {}}, {name: cm, configMap: {name: x}}]";
    for (lines, path, words) in [
        ("imagePullPolicy: sometimes", "imagePullPolicy", "none of Always, IfNotPresent, Never"),
        ("workingDir: a", "workingDir", "not absolute"),
        ("env: [{value: x}]", "env[0].name", "missing"),
        ("env: [{name: A=B}]", "env[0].name", "must not hold '='"),
        ("env: [{name: A, value: \"a\\0b\"}]", "env[0].value", "NUL"),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]", "env[0].valueFrom", "not supported yet"),
        ("envFrom: [{configMapRef: {name: a}}]", "envFrom", "not supported yet"),
        ("ports: [{hostPort: 80}]", "ports[0].containerPort", "missing"),
        ("ports: [{containerPort: 65536}]", "ports[0].containerPort", "1 to 65535"),
        ("ports: [{containerPort: -1}]", "ports[0].containerPort", "1 to 65535"),
        ("ports: [{containerPort: 80, hostPort: 70000}]", "ports[0].hostPort", "1 to 65535"),
        ("ports: [{containerPort: 80, protocol: tcp}]", "ports[0].protocol", "none of TCP, UDP, SCTP"),
        ("ports: [{containerPort: 80, hostPort: 80, protocol: SCTP}]", "ports[0].protocol", "SCTP cannot be mapped"),
        ("ports: [{containerPort: 80, hostPort: 80, hostIP: localhost}]", "ports[0].hostIP", "no IP address"),
        (
            "ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, hostIP: 127.0.0.1}]",
            "ports[1].hostPort",
            "already used by spec.containers[0].ports[0].hostPort",
        ),
        ("volumeMounts: [{name: w, mountPath: /a}]", "volumeMounts[0].name", "there is no volume \"w\", did you mean \"v\"?"),
        ("volumeMounts: [{mountPath: /a}]", "volumeMounts[0].name", "missing"),
        ("volumeMounts: [{name: v}]", "volumeMounts[0].mountPath", "missing"),
        ("volumeMounts: [{name: v, mountPath: a}]", "volumeMounts[0].mountPath", "not absolute"),
        ("volumeMounts: [{name: v, mountPath: /}]", "volumeMounts[0].mountPath", "cannot be covered"),
        ("volumeMounts: [{name: v, mountPath: /proc/sys}]", "volumeMounts[0].mountPath", "cannot be covered"),
        ("volumeMounts: [{name: v, mountPath: /a/../proc}]", "volumeMounts[0].mountPath", "'..'"),
        ("volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a/}]", "volumeMounts[1].mountPath", "already used"),
        ("volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]", "volumeMounts[0].subPath", "'..'"),
        ("volumeMounts: [{name: v, mountPath: /a, subPath: /b}]", "volumeMounts[0].subPath", "relative"),
        ("volumeMounts: [{name: v, mountPath: /a, subPathExpr: $(X)}]", "volumeMounts[0].subPathExpr", "not supported yet"),
        ("resources: {limits: {memory: 1Gib}}", "resources.limits.memory", "\"1Gib\" is no quantity"),
        ("resources: {limits: {cpu: \"-1\"}}", "resources.limits.cpu", "negative"),
        ("resources: {limits: {cpu: 1}, requests: {cpu: 2}}", "resources.requests.cpu", "more than the limit"),
        ("securityContext: {privileged: true, allowPrivilegeEscalation: false}", "securityContext.allowPrivilegeEscalation", "contradicts privileged"),
        ("securityContext: {capabilities: {add: [SYS_ADMIN]}, allowPrivilegeEscalation: false}", "securityContext.allowPrivilegeEscalation", "SYS_ADMIN"),
        ("securityContext: {capabilities: {drop: [NET_ADMN]}}", "securityContext.capabilities.drop[0]", "no capability"),
        ("securityContext: {seccompProfile: {type: Localhost}}", "securityContext.seccompProfile.localhostProfile", "missing"),
        ("securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}", "securityContext.seccompProfile.localhostProfile", "without '..'"),
        ("securityContext: {seccompProfile: {type: RuntimeDefault, localhostProfile: x}}", "securityContext.seccompProfile.localhostProfile", "only beside"),
        ("securityContext: {seccompProfile: {type: none}}", "securityContext.seccompProfile.type", "none of RuntimeDefault"),
        ("securityContext: {runAsUser: 0, runAsNonRoot: true}", "securityContext.runAsUser", "forbids user 0"),
        ("securityContext: {runAsUser: 2147483648}", "securityContext.runAsUser", "out of range"),
    ] {
        refused(&pod(volumes, lines), &format!("spec.containers[0].{path}"), words);
    }
    let mounted = pod(volumes, "volumeMounts: [{name: cm, mountPath: /a}]");
    refused(&mounted, "spec.volumes[1].configMap", "not supported yet");
}

#[test]
fn an_image_may_be_a_volume() {
    let volumes = "volumes: [{name: v, image: {reference: \"x:1\"}}, {name: w, image: {reference: x, pullPolicy: Never}}, {name: t, image: {reference: x}}]";
    let manifest = good(&pod(volumes, "volumeMounts: [{name: v, mountPath: /v}, {name: w, mountPath: /w, readOnly: false, subPath: a}]"));
    assert_eq!(manifest.warnings, []);
    let spec = manifest.pods[0].pod.spec.as_ref().expect("spec");
    let policies: Vec<_> = spec.volumes.iter().flatten().map(|v| v.image.as_ref().and_then(|i| i.pull_policy.as_deref()).expect("a policy")).collect();
    assert_eq!(policies, ["IfNotPresent", "Never", "Always"]);
    let mut plan = manifest.pods[0].plan.clone();
    assert_eq!(plan.volumes["w"], VolumeSource::Image { reference: "x".into(), pull_policy: PullPolicy::Never, image: None });
    // Read-only, whatever the manifest says.
    assert!(plan.containers[0].mounts.iter().all(|mount| mount.read_only));
    let named: Vec<(String, String, PullPolicy)> =
        plan.image_references_mut().map(|wanted| (wanted.user.to_string(), wanted.reference.to_owned(), wanted.pull_policy)).collect();
    let wanted = [
        ("container a", "x:1", PullPolicy::IfNotPresent), ("volume t", "x", PullPolicy::Always),
        ("volume v", "x:1", PullPolicy::IfNotPresent), ("volume w", "x", PullPolicy::Never),
    ];
    assert_eq!(named, wanted.map(|(user, reference, policy)| (user.to_owned(), reference.to_owned(), policy)));
    assert_eq!(plan.images().count(), 0);
    for (number, wanted) in plan.image_references_mut().enumerate() {
        wanted.set(image(&format!("sha256:{number}")));
    }
    assert_eq!(plan.image_references_mut().count(), 0, "all are set");
    assert_eq!(plan.images().map(|image| image.id.as_str()).collect::<Vec<_>>(), ["sha256:0", "sha256:1", "sha256:2", "sha256:3"]);
    assert_eq!(plan.containers[0].root, RootSource::Image(Box::new(image("sha256:0"))));
}

/// An image of nothing.
fn image(id: &str) -> Image {
    Image {
        reference: "x".to_owned(),
        names: Vec::new(),
        id: id.to_owned(),
        digest: String::new(),
        digests: Vec::new(),
        layers: Vec::new(),
        config: ImageConfig::default(),
        size: 0,
        created: None,
        architecture: String::new(),
    }
}

#[test]
fn what_must_be_there_is_missed() {
    for (text, path, words) in [
        ("kind: Pod\nmetadata: {name: a}", "apiVersion", "missing: Pod wants v1"),
        ("apiVersion: v2\nkind: Pod\nmetadata: {name: a}", "apiVersion", "write v1"),
        ("apiVersion: v1\nmetadata: {name: a}", "kind", "missing"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: x}]}", "metadata.name", "missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}", "spec.containers", "at least one"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "spec.containers", "at least one"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{image: x}]}", "spec.containers[0].name", "missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}", "spec.containers[0].image", "missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}\nspec: {containers: [{name: a, image: x}]}", "metadata.name", "must not hold '/'"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: ..}\nspec: {containers: [{name: a, image: x}]}", "metadata.name", "must not start with"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a/b}\nspec: {containers: [{name: a, image: x}]}", "metadata.namespace", "must not hold '/'"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: ../a, image: x}]}", "spec.containers[0].name", "must not hold '/'"),
    ] {
        refused(text, path, words);
    }
    let long = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec: {{containers: [{{name: a, image: x}}]}}", "a".repeat(63).as_str().to_owned() + &".b".repeat(90));
    refused(&long, "metadata.name", "together have more than 217 characters");
}

#[test]
fn all_errors_are_found_at_once_in_the_order_of_the_lines() {
    let found = errors(&pod(
        "restartPolicy: never\nhostname: A",
        "command: x\nports: [{containerPort: 0}]\nvolumeMounts: [{name: v, mountPath: /a}]",
    ));
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").nth(1).expect("a path")).collect();
    assert_eq!(
        places,
        [
            "spec.containers[0].command",
            "spec.containers[0].ports[0].containerPort",
            "spec.containers[0].volumeMounts[0].name",
            "spec.restartPolicy",
            "spec.hostname",
        ]
    );
}

#[test]
fn a_wrong_type_is_not_followed_by_what_comes_of_it() {
    for lines in ["apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: 5", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: x}"] {
        assert_eq!(errors(lines).len(), 1, "{:?}", errors(lines));
    }
    assert_eq!(errors(&pod("", "ports: [{containerPort: \"80\"}]")).len(), 1);
    assert_eq!(errors(&pod("", "resources: {limits: {memory: 1Gib}}")).len(), 1, "not for the defaulted request as well");
}

#[test]
fn what_is_not_supported_yet_is_named() {
    for (spec, container, path) in [
        ("", "livenessProbe: {httpGet: {port: 80}}", "spec.containers[0].livenessProbe"),
        ("", "readinessProbe: {exec: {command: [a]}}", "spec.containers[0].readinessProbe"),
        ("", "lifecycle: {preStop: {exec: {command: [a]}}}", "spec.containers[0].lifecycle.preStop"),
        ("", "terminationMessagePath: /x", "spec.containers[0].terminationMessagePath"),
        ("", "resources: {limits: {example.com/gpu: 1}}", "spec.containers[0].resources.limits[example.com/gpu]"),
        ("activeDeadlineSeconds: 5", "", "spec.activeDeadlineSeconds"),
        ("securityContext: {fsGroup: 5}", "", "spec.securityContext.fsGroup"),
        ("securityContext: {sysctls: [{name: net.core.somaxconn, value: \"1\"}]}", "", "spec.securityContext.sysctls"),
        ("volumes: [{name: v, secret: {secretName: x}}]", "", "spec.volumes[0].secret"),
        ("initContainers: [{name: i, image: x, startupProbe: {exec: {command: [a]}}}]", "", "spec.initContainers[0].startupProbe"),
    ] {
        let manifest = good(&pod(spec, container));
        let found: Vec<&str> = manifest.warnings.iter().map(|warning| warning.path.as_str()).collect();
        assert_eq!(found, [path]);
        assert_eq!(manifest.warnings[0].severity, Severity::Warning);
        assert!(manifest.warnings[0].message.contains("ignored") && manifest.warnings[0].line > 8);
    }
    for (spec, path) in [
        ("nodeName: n1", "spec.nodeName"),
        ("tolerations: [{key: a}]", "spec.tolerations"),
        ("serviceAccountName: x", "spec.serviceAccountName"),
        ("dnsPolicy: ClusterFirst", "spec.dnsPolicy"),
    ] {
        let manifest = good(&pod(spec, ""));
        assert_eq!(manifest.warnings.len(), 1);
        assert_eq!((manifest.warnings[0].path.as_str(), manifest.warnings[0].severity), (path, Severity::Note));
    }
    // Empty values and the defaults of the API server say nothing.
    for spec in ["affinity: {}", "tolerations: []", "nodeSelector:", "hostUsers: true", "setHostnameAsFQDN: false"] {
        assert_eq!(warnings(&pod(spec, "")), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn an_export_of_a_cluster_runs() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata:
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}\n"}
  creationTimestamp: "2026-01-02T03:04:05Z"
  generation: 1
  managedFields: [{apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:metadata": {"f:labels": {".": {}}}}, manager: kubectl, operation: Update, time: "2026-01-02T03:04:05Z"}]
  name: web
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: 1}]
  resourceVersion: "77"
  uid: 0b0b0b0b-0000-0000-0000-000000000000
spec:
  containers:
  - image: nginx:1.27
    imagePullPolicy: IfNotPresent
    name: web
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - {mountPath: /var/run/secrets/kubernetes.io/serviceaccount, name: kube-api-access-x, readOnly: true}
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: n1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  terminationGracePeriodSeconds: 30
  tolerations: [{effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}]
  volumes:
  - {name: kube-api-access-x, projected: {defaultMode: 420, sources: [{serviceAccountToken: {expirationSeconds: 3607, path: token}}]}}
status: {phase: Running, podIP: 10.0.0.1, hostIP: 10.0.0.2, conditions: [{type: Ready, status: "True", lastProbeTime: null}]}
"#
    .replace("uid: 1}", "uid: \"1\"}");
    let manifest = good(&text);
    let read = &manifest.pods[0];
    assert_ne!(read.plan.uid, "0b0b0b0b-0000-0000-0000-000000000000", "a pod of its own");
    assert_eq!(read.pod.status, None);
    assert_eq!(read.plan.containers[0].mounts, []);
    assert_eq!(read.plan.volumes.len(), 0);
    let warnings = manifest.warnings.iter().filter(|warning| warning.severity == Severity::Warning);
    assert_eq!(warnings.map(|warning| warning.path.as_str()).collect::<Vec<_>>(), ["spec.volumes[0].projected"]);
}

#[test]
fn the_same_container_port_twice_is_a_warning() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: x, ports: [{containerPort: 80}]}\n  - {name: b, image: x, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}\n";
    let found = warnings(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("web.yaml:7:") && found[0].contains("EADDRINUSE") && found[0].contains("\"a\""), "{}", found[0]);
}

#[test]
fn with_host_network_host_ports_are_the_containers() {
    let manifest = good(&pod("hostNetwork: true", "ports: [{containerPort: 80}]"));
    let plan = &manifest.pods[0].plan;
    assert_eq!(plan.network, NetworkMode::Host);
    assert_eq!(plan.containers[0].host_ports[0].host_port, 80);
    refused(&pod("hostNetwork: true", "ports: [{containerPort: 80, hostPort: 81}]"), "spec.containers[0].ports[0].hostPort", "has to be the containerPort");
}

#[test]
fn names_kubernetes_would_refuse_are_warnings_unless_strict() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: Demo_Pod, labels: {\"a b\": c}}\nspec: {containers: [{name: A, image: x}]}";
    let found = warnings(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|line| line.contains("Kubernetes would refuse it")));
    assert_eq!(read(text, true).expect_err("strict").errors.len(), 3);
}

#[test]
fn several_documents_sources_lists_and_json_are_read_in_order() {
    let one = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: a, image: x}}]}}\n");
    let text = format!("---\n# empty\n---\n{}---\n{}...\n---\n", one("p1"), one("p2"));
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
	{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p3"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}]}"#;
    let sources = [source(&text), Source { name: "b.json".to_owned(), text: json.to_owned() }];
    let manifest = parse(&sources, &ParseOptions::default()).expect("three pods");
    let names: Vec<&str> = manifest.pods.iter().map(|pod| pod.plan.name.as_str()).collect();
    assert_eq!(names, ["p1", "p2", "p3"]);
    let uids: std::collections::BTreeSet<&str> = manifest.pods.iter().map(|pod| pod.plan.uid.as_str()).collect();
    assert_eq!(uids.len(), 3);
    let twice = format!("{}---\n{}", one("p1"), one("p1"));
    refused(&twice, "metadata.name", "pod default/p1 is already defined at web.yaml:3:18");
    let bad = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod"}]}"#;
    let problems = read(bad, false).expect_err("a bad item");
    assert!(problems.errors.iter().any(|problem| problem.path == "items[0].metadata.name"), "{problems}");
}

#[test]
fn other_kinds_are_named_and_are_no_input_by_themselves() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let found = warnings(&format!("{config}---\n{}", pod("", "")));
    assert_eq!(found, ["web.yaml:2:7: kind: ConfigMap is not supported yet by minipod, ignored"]);
    assert_eq!(errors(config), ["web.yaml:2:7: kind: ConfigMap is not supported yet by minipod; there is nothing to run"]);
    assert_eq!(errors("apiVersion: v1\nkind: pods\n"), ["web.yaml:2:7: kind: unknown kind \"pods\", did you mean Pod?; there is nothing to run"]);
    for empty in ["", "\n", "---\n---\n", "# only this\n"] {
        assert_eq!(errors(empty), ["web.yaml: nothing to run: a manifest holds at least one `kind: Pod`"]);
    }
    for wrong in ["5", "- a", "hello"] {
        assert!(errors(wrong)[0].contains("expected a Kubernetes object"), "{wrong}");
    }
}

#[test]
fn workloads_become_numbered_pods() {
    let workload = |kind: &str, version: &str, count: &str, policy: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web, namespace: lab}}\nspec:\n  {count}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      {policy}\n      containers: [{{name: a, image: x, imag: y}}]\n"
        )
    };
    for (kind, version, count, policy, names) in [
        ("Deployment", "apps/v1", "replicas: 2", "", vec!["web-0", "web-1"]),
        ("ReplicaSet", "apps/v1", "replicas: 1", "", vec!["web-0"]),
        ("StatefulSet", "apps/v1", "serviceName: x", "", vec!["web-0"]),
        ("DaemonSet", "apps/v1", "minReadySeconds: 1", "", vec!["web-0"]),
        ("Job", "batch/v1", "parallelism: 2", "restartPolicy: Never", vec!["web-0", "web-1"]),
    ] {
        let manifest = good(&workload(kind, version, count, policy));
        let found: Vec<&str> = manifest.pods.iter().map(|pod| pod.plan.name.as_str()).collect();
        assert_eq!(found, names, "{kind}");
        assert!(manifest.pods.iter().all(|pod| pod.plan.namespace == "lab" && pod.plan.labels["app"] == "web"));
        let paths: Vec<&str> = manifest.warnings.iter().map(|warning| warning.path.as_str()).collect();
        assert_eq!(paths, ["kind", "spec.template.spec.containers[0].imag"], "{kind}");
    }
    refused(&workload("Job", "batch/v1", "parallelism: 1", ""), "spec.template.spec.restartPolicy", "OnFailure or Never");
    refused(&workload("Deployment", "apps/v1", "replicas: 100000", ""), "spec.replicas", "0 to 250");
    refused(&workload("Deployment", "v1", "replicas: 1", ""), "apiVersion", "write apps/v1");
}

#[test]
fn annotations_name_a_directory_or_a_bundle_instead_of_an_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let bundle = dir.path().join("bundle");
    std::fs::create_dir(&bundle).expect("bundle");
    let text = |annotation: &str, dir: &Path| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    minipod.dev/{annotation}: {}\nspec: {{containers: [{{name: a}}]}}\n",
            dir.display()
        )
    };
    let root = |annotation: &str, dir: &Path| plan(&text(annotation, dir)).containers[0].root.clone();
    assert_eq!(root("rootfs.a", dir.path()), RootSource::Directory(dir.path().to_owned()));
    refused(&text("bundle.a", &bundle), "metadata.annotations[minipod.dev/bundle.a]", "no config.json");
    std::fs::write(bundle.join("config.json"), "{}").expect("config.json");
    assert_eq!(root("bundle.a", &bundle), RootSource::Bundle(bundle.clone()));
    for (annotation, path, words) in [
        ("rootfs.a", "/does/not/exist", "cannot be used: No such file"),
        ("rootfs.a", "relative", "not absolute"),
        ("rootfs.a", "/proc/self/status", "not a directory"),
    ] {
        refused(&text(annotation, Path::new(path)), &format!("metadata.annotations[minipod.dev/{annotation}]"), words);
    }
    let problems = read(&text("rootfs.b", dir.path()), false).expect_err("no such container");
    assert!(problems.errors[0].message.contains("no container \"b\"; there are a"), "{problems}");
}

#[test]
fn publish_overrides_and_adds_host_ports() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: x, ports: [{containerPort: 80, hostPort: 80}]}\n  - {name: b, image: x, ports: [{containerPort: 53, protocol: UDP}]}\n";
    let mut plan = plan(text);
    publish(&mut plan, "127.0.0.1:8080:80").expect("replaces");
    assert_eq!(plan.containers[0].host_ports.len(), 1);
    assert_eq!((plan.containers[0].host_ports[0].host_port, plan.containers[0].host_ports[0].host_ip), (8080, "127.0.0.1".parse().ok()));
    publish(&mut plan, "5353:53/UDP").expect("goes to who declares it");
    assert_eq!(plan.containers[1].host_ports[0].protocol, Protocol::Udp);
    publish(&mut plan, "[::1]:99:99").expect("goes to the first");
    assert_eq!(plan.containers[0].host_ports[1].host_ip, "::1".parse().ok());
    let before = plan.clone();
    for bad in ["", "80", "a:80", "80:0", "0:80", "70000:80", "1.2.3:80:80", "80:80/sctp", "80:80/", "1:2:3:4", "8080:81"] {
        assert!(publish(&mut plan, bad).is_err(), "{bad}");
        assert_eq!(plan, before, "{bad} changed the plan");
    }
    publish_all(&mut plan, &["1000:80", "1001:80"]).expect("two ports of the host for one");
    let ports: Vec<u16> = plan.containers[0].host_ports.iter().map(|port| port.host_port).collect();
    assert_eq!(ports, [99, 1000, 1001]);
}

#[test]
fn boolean_looking_keys_and_octal_modes_are_read_as_kubernetes_does() {
    let yes = plan(&pod("hostNetwork: yes", "env: [{name: Y, value: off}]"));
    assert_eq!((yes.network, yes.containers[0].env[0].clone()), (NetworkMode::Host, ("Y".to_owned(), "off".to_owned())));
    let manifest = good("apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {n: \"1\", y: \"2\", 5: \"3\"}}\nspec: {containers: [{name: a, image: x}], volumes: [{name: v, configMap: {name: c, defaultMode: 0644}}]}");
    let labels: Vec<&str> = manifest.pods[0].plan.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["5", "n", "y"]);
    let volumes = manifest.pods[0].pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref()).expect("volumes");
    assert_eq!(volumes[0].config_map.as_ref().and_then(|map| map.default_mode), Some(0o644));
}

#[test]
fn anchors_and_merges_work_and_bombs_do_not_go_off() {
    let anchored = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - &base {name: a, image: x, env: [{name: A, value: b}]}\n  - <<: *base\n    name: b\n";
    let read = plan(anchored);
    assert_eq!((read.containers[1].name.as_str(), read.containers[1].env.len()), ("b", 1));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let nested = "[".repeat(100_000);
    let flat = format!("apiVersion: v1\nkind: Pod\nspec: {{containers: [{}]}}", "{name: a},".repeat(1_000_000));
    let huge = "x".repeat(33 << 20);
    for text in [bomb, nested, flat, huge] {
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].len() < 400, "{}", &found[0][..400]);
    }
}

#[test]
fn ten_megabytes_in_one_value_are_read() {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{x: \"{}\"}}}}\nspec: {{containers: [{{name: a, image: x}}]}}", "y".repeat(10 << 20));
    assert_eq!(plan(&text).annotations["x"].len(), 10 << 20);
}

#[test]
fn a_generated_name_and_a_path_of_a_long_hostname() {
    let read = plan("apiVersion: v1\nkind: Pod\nmetadata: {generateName: web-}\nspec: {containers: [{name: a, image: x}]}");
    assert!(read.name.starts_with("web-") && read.name.len() == 9, "{}", read.name);
    let name = format!("{}-{}", "a".repeat(62), "b".repeat(20)).replace("-b", ".b");
    let read = plan(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: a, image: x}}]}}"));
    assert_eq!(read.hostname, "a".repeat(62), "cut to 63 bytes, without a dot at its end");
    assert_eq!(read.containers[0].working_dir, None::<PathBuf>);
}
