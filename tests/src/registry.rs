//! Debian's docker-registry on the test's own loopback, filled by skopeo.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::images::{Form, Image, Written, oci_layout_as};
use crate::{Cmd, LIMIT, eventually};

/// The user that a registry with [`Access::Password`] knows.
pub const USER: &str = "minipod-tester";
/// That user's password; a word that is nowhere else, so that it can be looked for.
pub const PASSWORD: &str = "only-the-test-knows";
/// Both as htpasswd(1) -B writes them (bcrypt, cost 5).
const HTPASSWD: &str = "minipod-tester:$2y$05$Yt1zFq8WkLr3vNsXb6HcGebA/MKwUG.mNsqUgCiATCyZoaIj6DF.e\n";
/// Both as a client sends them.
const BASIC: &str = "Basic bWluaXBvZC10ZXN0ZXI6b25seS10aGUtdGVzdC1rbm93cw==";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a registry is reached.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Plain http, by anyone.
    Open,
    /// Plain http, by [`USER`] with [`PASSWORD`].
    Password,
    /// https with a certificate of this authority for 127.0.0.1 and localhost, by anyone.
    Tls(&'a Authority),
}

/// A certificate authority that nobody knows but the test.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes one in a new directory. `None`: skip the test.
    #[must_use]
    pub fn new(dir: PathBuf) -> Option<Self> {
        crate::installed("openssl")?;
        fs::create_dir(&dir).expect("make a directory for certificates");
        fs::write(dir.join("openssl.cnf"), OPENSSL).expect("write openssl's configuration");
        let this = Self { dir };
        this.certificate("ca", &["-subj", "/CN=the test's authority"]);
        this.certificate("server", &["-subj", "/CN=the test's registry", "-CA", "ca.pem", "-CAkey", "ca.key"]);
        Some(this)
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn certificate(&self, name: &str, more: &[&str]) {
        let new = ["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "30"];
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let cmd = Cmd::new("openssl").dir(&self.dir).args(new).args(["-extensions", name, "-keyout", &key, "-out", &pem]);
        let _said = cmd.args(more).run().ok();
    }
}

/// Two kinds of certificates: clients do not take an authority's own as a server's.
const OPENSSL: &str = "[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
";

/// A registry, until dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
    user: Option<&'static str>,
    tls: bool,
}

impl Registry {
    /// Starts one in the calling thread's network, with everything it keeps in a new directory. `None`: skip the test.
    #[must_use]
    pub fn start(dir: PathBuf, access: Access<'_>) -> Option<Self> {
        let program = crate::installed("docker-registry")?;
        crate::installed("skopeo")?;
        fs::create_dir(&dir).expect("make a directory for a registry");
        let (config, log) = (dir.join("config.yml"), dir.join("log"));
        fs::write(&config, configuration(&dir, access).to_string()).expect("write the registry's configuration"); // JSON is YAML
        // The kernel ends it with the test's thread, should that be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).arg("serve").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("make a log"));
        let child = command.spawn().expect("start a registry");
        let said = || listens(&fs::read_to_string(&log).expect("read its log"));
        let address = eventually(LIMIT, "the registry says where it listens", said);
        let user = matches!(access, Access::Password).then_some(USER);
        let this = Self { child, address, dir, user, tls: matches!(access, Access::Tls(_)) };
        if !this.tls {
            let answer = this.ask("GET", "/v2/", &[], &[]);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        Some(this)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// For a [`Proxy`](crate::Proxy).
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// Its name of an image.
    #[must_use]
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Puts an image there, for this machine and pressed by gzip, under `name:tag`.
    pub fn fill(&self, image: &Image, name: &str) -> Written {
        self.fill_as(image, &Form::default(), name)
    }

    /// Puts an image there, byte for byte as it was written.
    pub fn fill_as(&self, image: &Image, form: &Form, name: &str) -> Written {
        let layout = tempfile::tempdir_in(&self.dir).expect("make a directory");
        let image = Image { reference: "it".into(), ..image.clone() };
        let written = oci_layout_as(&image, form, layout.path());
        self.copy_in(&format!("oci:{}:it", layout.path().display()), &["--preserve-digests"], name);
        written
    }

    /// Puts an image there as Docker writes it: manifest schema 2, layers pressed by gzip.
    pub fn fill_as_docker(&self, image: &Image, name: &str) {
        let layout = tempfile::tempdir_in(&self.dir).expect("make a directory");
        let image = Image { reference: "it".into(), ..image.clone() };
        let _digests = oci_layout_as(&image, &Form::default(), layout.path());
        self.copy_in(&format!("oci:{}:it", layout.path().display()), &["--format", "v2s2"], name);
    }

    /// Puts what skopeo calls `source` there.
    pub fn copy_in(&self, source: &str, options: &[&str], name: &str) {
        let to = format!("docker://{}", self.name(name));
        let _said = self.skopeo("copy").args(["-q", "--dest-tls-verify=false"]).args(self.credentials("--dest-creds"))
            .args(options).args([source, &to]).run().ok();
    }

    /// Puts an index of several images there; its digest. Each is made for its own platform.
    pub fn fill_index(&self, images: &[(Image, Form)], name: &str) -> String {
        let (repository, tag) = name.rsplit_once(':').expect("name:tag");
        let manifests: Vec<Value> = images.iter().enumerate()
            .map(|(n, (image, form))| self.fill_as(image, form, &format!("{repository}:{tag}-{n}")).descriptor).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.put_manifest(repository, tag, INDEX, index.to_string().as_bytes())
    }

    /// Puts a manifest there; its digest, as the registry has it.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let answer = self.ask("PUT", &format!("/v2/{repository}/manifests/{tag}"), &[("Content-Type", media_type)], bytes);
        assert_eq!(answer.status, 201, "{} {}", answer.head.first, String::from_utf8_lossy(&answer.body));
        answer.head.get("docker-content-digest").expect("a digest").to_owned()
    }

    /// What `skopeo inspect` says of an image.
    #[must_use]
    pub fn inspect(&self, name: &str) -> Value {
        let from = format!("docker://{}", self.name(name));
        let text = self.skopeo("inspect").arg("--tls-verify=false").args(self.credentials("--creds")).arg(from).run().ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("skopeo prints JSON: {e}\n{text}"))
    }

    /// A manifest.
    #[must_use]
    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        let bytes = self.manifest_bytes(repository, tag);
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("a manifest is JSON: {e}\n{}", String::from_utf8_lossy(&bytes)))
    }

    /// A manifest as it is stored.
    #[must_use]
    pub fn manifest_bytes(&self, repository: &str, tag: &str) -> Vec<u8> {
        let known = [INDEX, "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
        let known = known.join(", ");
        let answer = self.ask("GET", &format!("/v2/{repository}/manifests/{tag}"), &[("Accept", &known)], &[]);
        assert_eq!(answer.status, 200, "{repository}:{tag}: {}", String::from_utf8_lossy(&answer.body));
        answer.body
    }

    /// A blob as it is stored.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let answer = self.ask("GET", &format!("/v2/{repository}/blobs/{digest}"), &[], &[]);
        assert_eq!(answer.status, 200, "{repository} {digest}");
        answer.body
    }

    /// `skopeo VERB`, to be given the rest, with what it keeps among the registry's files.
    #[must_use]
    pub fn skopeo(&self, verb: &str) -> Cmd {
        // Root's skopeo keeps a cache in /var/lib, which tests would change and wait for; a user's is among the user's files.
        let cmd = Cmd::new("skopeo").env("_CONTAINERS_ROOTLESS_UID", "1").env("XDG_DATA_HOME", &*self.dir);
        cmd.args(["--insecure-policy", "--tmpdir"]).arg(&self.dir).arg(verb)
    }

    fn credentials(&self, option: &str) -> Vec<String> {
        self.user.map(|user| format!("{option}={user}:{PASSWORD}")).into_iter().collect()
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let authorization = self.user.map(|_| ("Authorization", BASIC));
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain(authorization).collect();
        let headers = &*headers;
        http::request(self.address, method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }
}

/// The address at the end of the log's line about it.
fn listens(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find([',', '"', ' '])?;
    rest[..end].parse().ok()
}

fn configuration(dir: &Path, access: Access<'_>) -> Value {
    let mut config = json!({
        "version": "0.1",
        "log": { "level": "info", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": dir.join("storage") },
            "maintenance": { "uploadpurging": { "enabled": false } } },
        "http": { "addr": "127.0.0.1:0", "secret": "of the test" }, // the kernel chooses the port
    });
    match access {
        Access::Open => {}
        Access::Password => {
            let path = dir.join("htpasswd");
            fs::write(&path, HTPASSWD).expect("write the list of users");
            config["auth"] = json!({ "htpasswd": { "realm": "the test", "path": path } });
        }
        Access::Tls(authority) => {
            let at = |name: &str| authority.dir.join(name);
            config["http"]["tls"] = json!({ "certificate": at("server.pem"), "key": at("server.key") });
        }
    }
    config
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("end a registry");
        self.child.wait().expect("wait for a registry's end");
    }
}
