//! Tells compressed streams by their first bytes.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// A stream that is as it was before any compression.
pub(super) enum Decoded<'a> {
    /// It was not compressed.
    Plain(Box<dyn Read + 'a>),
    /// It was, and is decompressed while read.
    Compressed(Box<dyn Read + 'a>),
}

impl<'a> Decoded<'a> {
    pub(super) fn into_reader(self) -> Box<dyn Read + 'a> {
        match self {
            Self::Plain(reader) | Self::Compressed(reader) => reader,
        }
    }
}

/// Bytes asked of a source at once.
const BUFFER: usize = 128 << 10;

/// Formats that images use in theory but that nothing writes today.
const UNSUPPORTED: &[(&[u8], &str)] = &[(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")];

/// Decompresses gzip (several members too) and zstd (several frames too); passes everything else through.
///
/// Media types are not trusted: tools label gzip as plain and the reverse.
///
/// # Errors
/// A read error; a compression that is known but not supported.
///
/// Spec: RFC 1952 section 2.3.1 (gzip magic), RFC 8878 section 3.1.1 (zstd magic).
pub(super) fn decode<'a>(mut from: impl Read + 'a) -> io::Result<Decoded<'a>> {
    let mut magic = Vec::with_capacity(6);
    from.by_ref().take(6).read_to_end(&mut magic)?;
    if let Some((_, name)) = UNSUPPORTED.iter().find(|(start, _)| magic.starts_with(start)) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("compressed with {name}; minipod reads gzip, zstd and uncompressed data"),
        ));
    }
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(magic).chain(from));
    Ok(if gzip {
        Decoded::Compressed(Box::new(MultiGzDecoder::new(whole)))
    } else if zstd {
        Decoded::Compressed(Box::new(zstd::Decoder::with_buffer(whole)?))
    } else {
        Decoded::Plain(Box::new(whole))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(from: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        decode(from)?.into_reader().read_to_end(&mut all)?;
        Ok(all)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(data).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn reads_each_kind() {
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"abc").unwrap(), b"abc");
        assert_eq!(read(&[gzip(b"abc"), gzip(b"def")].concat()).unwrap(), b"abcdef");
        let zstd = |data| zstd::encode_all(data, 1).unwrap();
        assert_eq!(read(&[zstd(&b"abc"[..]), zstd(&b"def"[..])].concat()).unwrap(), b"abcdef");
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        assert!(read(b"\xfd7zXZ\0\0").unwrap_err().to_string().contains("xz"));
        let whole = gzip(b"abc");
        assert!(read(&whole[..whole.len() - 3]).is_err());
    }
}
