//! A scripted HTTP server on 127.0.0.1, and clients with little patience.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bundles::image::{Digest, Reference};
use bundles::registry::{
    Client, Credentials, DockerConfig, NoHelper, Notice, Options, Patience, Places, RegistryError, Repository, Settings,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::Digest as _;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that `Range` asks for.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    /// Closed after so many bytes of the body.
    Cut(usize),
    /// Reset after so many bytes of the body.
    Reset(usize),
    /// Silent after so many bytes of the body, until the client goes.
    Stall(usize),
    /// The body again and again, until the client goes; no length is announced.
    Endless,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), ending: Ending::Whole }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(200) }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// What is left of `body` for a `Range`, as a good server does it.
    pub(crate) fn part(request: &Request, body: &[u8]) -> Self {
        match request.from() {
            0 => Self::ok(body),
            from => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                Self { body: body[from..].to_vec(), ..Self::new(206) }.with("Content-Range", range)
            }
        }
    }

    /// A bearer challenge.
    pub(crate) fn bearer(realm: &str) -> Self {
        Self::new(401).with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"srv\",scope=\"repository:x:pull\""))
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

trait Stream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// Serves until dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn plain(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(script))
    }

    pub(crate) fn tls(tls: Arc<ServerConfig>, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Some(tls), Arc::new(script))
    }

    fn start(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (their_seen, their_stop) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if their_stop.load(Ordering::SeqCst) {
                    return;
                }
                let (script, seen, tls) = (script.clone(), their_seen.clone(), tls.clone());
                let socket = socket.unwrap();
                // Ends when the client closes; what it says then (a reset, mostly) is the client's business.
                std::thread::spawn(move || drop(serve(socket, tls, &*script, &seen)));
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests for paths that contain `part` came.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|request| request.path.contains(part)).count()
    }

    /// `http://127.0.0.1:PORT/path`
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(socket: TcpStream, tls: Option<Arc<ServerConfig>>, script: &Script, seen: &Mutex<Vec<Request>>) -> io::Result<()> {
    let mut stream: Box<dyn Stream> = match tls {
        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), socket)),
        None => {
            let mut first = [0];
            if socket.peek(&mut first)? == 1 && first[0] == 0x16 {
                // A TLS hello: what Go's servers answer.
                (&socket).write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")?;
                socket.shutdown(std::net::Shutdown::Write)?;
                return io::copy(&mut &socket, &mut io::sink()).map(drop);
            }
            Box::new(socket)
        }
    };
    let mut reader = BufReader::new(&mut stream);
    while let Some(request) = read_request(&mut reader)? {
        seen.lock().unwrap().push(request.clone());
        let reply = script(&request);
        if !answer(reader.get_mut().as_mut(), &request, reply)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl io::BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body: String::from_utf8(body).unwrap() }))
}

/// Whether the connection goes on.
fn answer(stream: &mut dyn Stream, request: &Request, reply: Reply) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    let said = |name: &str| reply.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    if !said("content-length") && !said("transfer-encoding") && reply.ending != Ending::Endless {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if request.method == "HEAD" {
        return stream.flush().map(|()| true);
    }
    match reply.ending {
        Ending::Whole => stream.write_all(&reply.body)?,
        Ending::Cut(count) | Ending::Reset(count) | Ending::Stall(count) => stream.write_all(&reply.body[..count])?,
        Ending::Endless => loop {
            stream.write_all(&reply.body)?;
        },
    }
    stream.flush()?;
    match reply.ending {
        Ending::Reset(_) => rustix::net::sockopt::set_socket_linger(stream.socket(), Some(Duration::ZERO))?,
        Ending::Stall(_) => drop(stream.read(&mut [0])?),
        _ => {}
    }
    Ok(reply.ending == Ending::Whole)
}

/// A directory of one's own, and the options of a client that works in it.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
}

impl Bench {
    /// With these settings.
    pub(crate) fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::parse(settings, Path::new("test.conf")).unwrap();
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let told = notices.clone();
        let mut options = Options::new(settings, Credentials::none());
        options.notify = Arc::new(move |notice| told.lock().unwrap().push(notice.clone()));
        options.certs_dirs = vec![dir.path().join("certs.d")];
        options.patience = Patience {
            tries: 3,
            progress: 1,
            first_pause: Duration::from_millis(2),
            longest_wish: Duration::from_secs(1),
            ..Patience::default()
        };
        Self { dir, options, notices }
    }

    /// With `server` as an insecure registry.
    pub(crate) fn insecure(server: &Server) -> Self {
        Self::new(&insecure(server))
    }

    /// With a file of credentials.
    pub(crate) fn with_auths(mut self, json: &str) -> Self {
        let path = self.file("auth.json", json);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let places = Places { authfile: Some(path), ..Places::default() };
        self.options.credentials = Credentials::load(&places, Arc::new(NoHelper)).unwrap();
        self
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.options.clone())
    }

    /// The repository `a/b` of `server`, tag 1.
    pub(crate) fn repository(&self, server: &Server) -> Repository {
        self.named(&format!("{}/a/b:1", server.address), &[]).unwrap()
    }

    pub(crate) fn named(&self, name: &str, secrets: &[DockerConfig]) -> Result<Repository, RegistryError> {
        self.client().repository(&Reference::parse(name).unwrap(), secrets)
    }

    pub(crate) fn retries(&self) -> usize {
        self.notices.lock().unwrap().iter().filter(|notice| matches!(notice, Notice::Retry { .. })).count()
    }
}

pub(crate) fn insecure(server: &Server) -> String {
    format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", server.address)
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().unwrap()
}

/// Bytes that differ at every place.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

/// All of a blob.
pub(crate) fn read(repository: &Repository, content: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let mut blob = repository.blob(&digest(content), content.len() as u64)?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(|error| RegistryError::from_io(error).expect("an error of the registry"))?;
    Ok(bytes)
}

/// The whole message, as users see it.
pub(crate) fn message(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// The message, which must have all these words in it.
#[track_caller]
pub(crate) fn says(error: &RegistryError, words: &[&str]) {
    let text = message(error);
    for word in words {
        assert!(text.contains(word), "`{word}` is not in `{text}`");
    }
}

/// A certificate authority made for a test.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server's side, for `names`; when `clients` is given, with certificates by it only.
    pub(crate) fn server(&self, names: &[&str], clients: Option<&Self>) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(names);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                let pem = pem_to_der(&authority.pem);
                roots.add(pem.into()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    /// Certificate and key of a client, in PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let (certificate, key) = self.issue(&["client"]);
        (certificate.pem(), key.serialize_pem())
    }
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
