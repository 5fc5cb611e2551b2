//! Whom to believe: authorities of the system, of the settings and of certs.d; and how to prove who we are.
//!
//! Spec: containers-certs.d(5): `<dir>/<host[:port]>/*.crt` are authorities, `*.cert` with `*.key` beside it is for us.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::error::Problem;
use super::settings::Security;

/// Where certificates by host are.
pub const CERTS_DIRS: &[&str] = &["/etc/containers/certs.d", "/etc/docker/certs.d"];
/// More than any file with certificates has.
const LARGEST_FILE: u64 = 4 << 20;

/// The authorities this machine trusts; when it names none, those that came with this program.
///
/// Honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Files that cannot be read and certificates that do not parse are left out: the others may do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// What TLS with `authority` (host, with its port when it is not the usual one) goes by.
pub(super) fn config(
    authority: &str,
    ca: Option<&Path>,
    security: Security,
    dirs: &[PathBuf],
    system: &RootCertStore,
) -> Result<Arc<ClientConfig>, Problem> {
    let mut roots = system.clone();
    let mut own = Vec::new();
    let mut client = None;
    if let Some(path) = ca {
        own.extend(authorities(path, &mut roots)?);
    }
    for dir in dirs {
        for path in files(&dir.join(authority))? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => own.extend(authorities(&path, &mut roots)?),
                Some("cert") => client = Some(path),
                _ => {}
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let wrong_here = |error: &dyn fmt::Display| Problem::Tls { host: authority.to_owned(), why: error.to_string() };
    let trusting = match security {
        Security::Insecure => Trusting::Anybody,
        Security::Tls => {
            let chain = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
            Trusting::These { chain: chain.map_err(|error| wrong_here(&error))?, own }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong_here(&error))?.dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Verifier { trusting, provider }));
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (chain, key) = client_certificate(&path)?;
            let key_path = path.with_extension("key");
            let with_key = builder.with_client_auth_cert(chain, key);
            with_key.map_err(|error| wrong(&path, format!("with {}: {error}", key_path.display())))?
        }
    };
    Ok(Arc::new(config))
}

/// Decides whether a server is who it says.
#[derive(Debug)]
struct Verifier {
    trusting: Trusting,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trusting {
    /// `insecure`.
    Anybody,
    These {
        chain: Arc<WebPkiServerVerifier>,
        /// Certificates that the user put there for this host.
        own: Vec<CertificateDer<'static>>,
    },
}

/// How webpki says that a server has an authority's certificate; it gives no other way to tell.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

impl ServerCertVerifier for Verifier {
    /// A server that shows the very certificate the user trusts is trusted, though it is an authority's own: `openssl req -x509`
    /// makes such ones, and Docker's manual puts them there. webpki refuses that after it looked at the time.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trusting::These { chain, own } = &self.trusting else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(error) if error.to_string().contains(AUTHORITY_AS_SERVER) => {}
            other => return other,
        }
        if !own.iter().any(|certificate| certificate == end_entity) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Puts TLS around the connections of one host. ureq's own connector takes no verifier.
#[derive(Debug)]
pub(super) struct TlsConnector {
    pub(super) config: Arc<ClientConfig>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, Tls>;

    fn connect(&self, details: &ConnectionDetails, below: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(below) = below else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(below)));
        }
        let failed = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let host = details.uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| ureq::Error::BadUri(format!("{bare} is no host's name")))?;
        let mut session = ClientConnection::new(self.config.clone(), name).map_err(failed)?;
        let mut socket = TransportAdapter::new(below.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Tls { buffers, stream: StreamOwned::new(session, socket) })))
    }
}

/// A connection with TLS around it.
pub(super) struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("below", &self.stream.sock.inner()).finish_non_exhaustive()
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let count = io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The files of a directory by name; none when there is no directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let problem = |error: io::Error| wrong(dir, error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(problem(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(problem)?.path());
    }
    files.sort();
    Ok(files)
}

fn wrong(path: &Path, why: impl ToString) -> Problem {
    Problem::Certificates { path: path.to_owned(), why: why.to_string() }
}

/// All pieces of a PEM file of one kind.
fn pieces<T: PemObject>(path: &Path) -> Result<Vec<T>, Problem> {
    let bytes = super::read_file(path, LARGEST_FILE).map_err(|error| wrong(path, error))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    T::pem_slice_iter(&bytes).collect::<Result<_, PemError>>().map_err(|error| wrong(path, error))
}

/// All certificates of a file: into `roots`, and back.
fn authorities(path: &Path, roots: &mut RootCertStore) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Vec<CertificateDer<'static>> = pieces(path)?;
    for certificate in &found {
        roots.add(certificate.clone()).map_err(|error| wrong(path, error))?;
    }
    if found.is_empty() { Err(wrong(path, "no certificate in PEM in it")) } else { Ok(found) }
}

/// `x.cert` with `x.key`.
fn client_certificate(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Problem> {
    let key_path = path.with_extension("key");
    let key = pieces(&key_path)?.into_iter().next();
    Ok((pieces(path)?, key.ok_or_else(|| wrong(&key_path, "no private key in PEM in it"))?))
}
