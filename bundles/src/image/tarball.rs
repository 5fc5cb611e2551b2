//! Reads tar streams: v7, ustar, GNU and pax.
//!
//! The fields come from the tar crate; the loop is ours, because the crate's reads extended headers of any size into
//! memory, and because a layer's hash needs every byte in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::error::LayerError;
use super::limits::Limits;
use super::pax::Extensions;
use super::sparse::{self, Segment, Sparse};

const BLOCK: u64 = 512;
/// Segments in a block of GNU's sparse map.
const SEGMENTS_OF_A_BLOCK: usize = 21;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A file with holes; its stored bytes are the segments, in order.
    SparseFile(Sparse),
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// One entry; its data is read from the [`TarReader`].
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// As in the archive.
    pub(super) path: Vec<u8>,
    /// Target of a link; empty for others.
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes stored.
    pub(super) size: u64,
    /// Bytes from the start of the stream to its data.
    pub(super) offset: u64,
}

impl Entry {
    /// The name, for messages.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// A stream that can pass over bytes nobody wants.
pub(super) trait Skip: Read {
    /// Passes over `count` bytes.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// Reads and discards.
pub(super) struct Forward<R>(pub(super) R);

impl<R: Read> Read for Forward<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Forward<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.0.by_ref().take(count), &mut io::sink())?;
        if passed < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Skip for &File {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let length = self.metadata()?.len();
        let at = self.stream_position()?;
        match at.checked_add(count) {
            Some(to) if to <= length => self.seek(SeekFrom::Start(to)).map(drop),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Entry by entry; between two calls of [`next`](TarReader::next), reading gives the entry's data.
pub(super) struct TarReader<'a, R> {
    inner: R,
    limits: &'a Limits,
    /// Bytes taken from `inner`.
    position: u64,
    /// Data of the current entry not yet read, and the padding behind it.
    remaining: u64,
    padding: u64,
}

/// What the special entries in front of a real one said.
#[derive(Default)]
struct Pending {
    pax: Option<Extensions>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<'a, R: Skip> TarReader<'a, R> {
    pub(super) fn new(inner: R, limits: &'a Limits) -> Self {
        Self { inner, limits, position: 0, remaining: 0, padding: 0 }
    }

    /// The next entry; `None` after two blocks of zeros, or where the stream ends between entries.
    ///
    /// # Errors
    /// [`LayerError::Read`], [`LayerError::Tar`], [`LayerError::Limit`].
    ///
    /// Spec: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut pending = Pending::default();
        for _ in 0..=self.limits.headers {
            self.pass_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = field(&header.as_old().size).ok_or_else(|| self.bad("wrong size"))?;
            match header.as_old().linkflag[0] {
                b'x' | b'X' => {
                    let data = self.special(size)?;
                    let parsed = Extensions::parse(&data, self.limits.sparse_segments);
                    pending.pax = Some(parsed.map_err(|why| self.bad(why))?);
                }
                b'L' => pending.long_path = Some(cut(&self.special(size)?).to_vec()),
                b'K' => pending.long_link = Some(cut(&self.special(size)?).to_vec()),
                // Defaults for the whole archive: git's comment, nothing a layer may depend on (Docker ignores it too).
                b'g' => self.start_special(size)?,
                _ => return self.entry(&header, size, pending).map(Some),
            }
        }
        Err(LayerError::Limit { what: "extended headers in front of an entry", limit: self.limits.headers as u64 })
    }

    fn entry(&mut self, header: &tar::Header, size: u64, pending: Pending) -> Result<Entry, LayerError> {
        let pax = pending.pax.unwrap_or_default();
        let path = pax.path.or(pending.long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.or(pending.long_link);
        let link = link.unwrap_or_else(|| header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default());
        let longest = path.len().max(link.len());
        if longest > self.limits.path_bytes {
            return Err(LayerError::Limit { what: "bytes in a name", limit: self.limits.path_bytes as u64 });
        }
        let old = header.as_old();
        let number = |value: Option<u64>, bytes: &[u8], what: &str| {
            let value = value.or_else(|| field(bytes)).ok_or_else(|| self.bad(format!("wrong {what}")))?;
            // The highest number means "no change" to chown(2).
            let fits = u32::try_from(value).ok().filter(|value| *value < u32::MAX);
            fits.ok_or_else(|| self.bad(format!("{what} {value} is too large")))
        };
        let mode = number(None, &old.mode, "mode")? & 0o7777;
        let uid = number(pax.uid, &old.uid, "owner")?;
        let gid = number(pax.gid, &old.gid, "group")?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => (signed_field(&old.mtime).ok_or_else(|| self.bad("wrong time"))?, 0),
        };
        let stored = pax.size.unwrap_or(size);
        let mut kind = self.kind(header, &path)?;
        // Only files have data; other kinds may carry a size that means nothing (old tars gave links the file's).
        let has_data = matches!(kind, Kind::File | Kind::SparseFile(_));
        let mut sparse = None;
        if header.as_old().linkflag[0] == b'S' {
            sparse = Some(self.gnu_sparse(header, stored)?);
        }
        self.start_data(if has_data { stored } else { 0 })?;
        if has_data && (pax.sparse.map_in_data || !pax.sparse.map.is_empty()) {
            sparse = Some(self.pax_sparse(pax.sparse, stored)?);
        }
        if let Some(sparse) = sparse {
            kind = Kind::SparseFile(sparse);
        }
        Ok(Entry { path, link, kind, mode, uid, gid, mtime, xattrs: pax.xattrs, size: self.remaining, offset: self.position })
    }

    fn kind(&self, header: &tar::Header, path: &[u8]) -> Result<Kind, LayerError> {
        let device = || -> Result<(u32, u32), LayerError> {
            let bytes = header.as_bytes();
            let part = |at: usize| field(&bytes[at..at + 8]).and_then(|n| u32::try_from(n).ok());
            part(329).zip(part(337)).ok_or_else(|| self.bad("wrong device number"))
        };
        Ok(match header.as_old().linkflag[0] {
            // Before ustar had a type for them, directories were files with a slash at the end.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(path);
                return Err(self.bad(format!("entry `{name}` has the unknown type {:?}", char::from(other))));
            }
        })
    }

    /// The map of GNU's own format: four segments in the header, more in blocks behind it.
    fn gnu_sparse(&mut self, header: &tar::Header, stored: u64) -> Result<Sparse, LayerError> {
        let gnu = header.as_gnu().ok_or_else(|| self.bad("a sparse file in a header that is not GNU's"))?;
        let size = field(&gnu.realsize).ok_or_else(|| self.bad("wrong size of a sparse file"))?;
        let mut segments = Vec::new();
        let mut more = gnu.isextended[0] == 1;
        let mut take = |offset: &[u8], length: &[u8]| -> Option<()> {
            if offset[0] != 0 && length[0] != 0 {
                segments.push(Segment { offset: field(offset)?, length: field(length)? });
            }
            (segments.len() <= self.limits.sparse_segments).then_some(())
        };
        let mut fine = gnu.sparse.iter().try_for_each(|s| take(&s.offset, &s.numbytes));
        // Blocks without a segment in them would go on for ever.
        for _ in 0..=self.limits.sparse_segments / SEGMENTS_OF_A_BLOCK {
            if !more || fine.is_none() {
                break;
            }
            let mut block = [0; BLOCK as usize];
            self.inner.read_exact(&mut block).map_err(LayerError::Read)?;
            self.position += BLOCK;
            fine = block[..504].chunks_exact(24).try_for_each(|s| take(&s[..12], &s[12..]));
            more = block[504] == 1;
        }
        fine.filter(|()| !more).ok_or_else(|| self.bad("wrong or too long map of a sparse file"))?;
        Sparse::checked(segments, size, stored).map_err(|why| self.bad(why))
    }

    /// The map of a pax header, or of the blocks in front of the data.
    fn pax_sparse(&mut self, keys: super::pax::SparseKeys, stored: u64) -> Result<Sparse, LayerError> {
        let mut segments = keys.map;
        let mut stored = stored;
        if keys.map_in_data {
            let limit = self.limits.sparse_segments;
            let (map, length) = sparse::read_map(&mut *self, limit).map_err(LayerError::Read)?;
            segments = map;
            stored -= length;
        }
        let size = keys.real_size.ok_or_else(|| self.bad("a sparse file without a size"))?;
        Sparse::checked(segments, size, stored).map_err(|why| self.bad(why))
    }

    /// One header block with a right checksum.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut header = tar::Header::new_old();
        for zero_blocks in 0..2 {
            match self.block(header.as_mut_bytes())? {
                false => return Ok(None),
                true if header.as_bytes().iter().any(|&b| b != 0) => {
                    if zero_blocks > 0 {
                        return Err(self.bad("a block of zeros inside the archive"));
                    }
                    self.check_sum(&header)?;
                    return Ok(Some(header));
                }
                true => {}
            }
        }
        Ok(None)
    }

    fn check_sum(&self, header: &tar::Header) -> Result<(), LayerError> {
        let bytes = header.as_bytes();
        let field_range = 148..156;
        let blanked = |(at, &byte): (usize, &u8)| if field_range.contains(&at) { b' ' } else { byte };
        let unsigned: u64 = bytes.iter().enumerate().map(|b| u64::from(blanked(b))).sum();
        // Some old tars summed signed bytes.
        let signed: i64 = bytes.iter().enumerate().map(|b| i64::from(blanked(b).cast_signed())).sum();
        match field(&header.as_old().cksum) {
            Some(sum) if sum == unsigned || i64::try_from(sum) == Ok(signed) => Ok(()),
            _ => Err(self.bad("wrong header checksum: damaged, or not a tar archive")),
        }
    }

    /// Fills one block; `false` when the stream ends before it.
    fn block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.bad("it ends inside a header: truncated")),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LayerError::Read(e)),
            }
        }
        self.position += BLOCK;
        Ok(true)
    }

    fn start_data(&mut self, size: u64) -> Result<(), LayerError> {
        // Positions are file offsets, which are signed.
        if size > i64::MAX as u64 - BLOCK {
            return Err(self.bad("wrong size"));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    fn start_special(&mut self, size: u64) -> Result<(), LayerError> {
        if size > self.limits.header_bytes {
            return Err(LayerError::Limit { what: "bytes in an extended header", limit: self.limits.header_bytes });
        }
        self.start_data(size)
    }

    /// All of an extended header.
    fn special(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        self.start_special(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(LayerError::Read)?;
        Ok(data)
    }

    /// Passes over what is left of the current entry.
    fn pass_rest(&mut self) -> Result<(), LayerError> {
        let rest = self.remaining + self.padding;
        if rest > 0 {
            self.inner.skip(rest).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => self.bad("it ends inside an entry: truncated"),
                _ => LayerError::Read(e),
            })?;
        }
        self.position += rest;
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn bad(&self, why: impl Into<String>) -> LayerError {
        LayerError::Tar { offset: self.position, why: why.into() }
    }
}

impl<R: Read> Read for TarReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends inside an entry: truncated"));
        }
        self.remaining -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

/// Up to the first NUL.
fn cut(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Octal digits with blanks around them, or binary when the first bit is set; blank is 0, as everywhere.
fn signed_field(bytes: &[u8]) -> Option<i64> {
    if bytes[0] & 0x80 != 0 {
        // Two's complement in the remaining bits.
        let negative = bytes[0] & 0x40 != 0;
        let first = i128::from(bytes[0] & 0x3f) - if negative { 0x40 } else { 0 };
        let value = bytes[1..].iter().try_fold(first, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?;
        return i64::try_from(value).ok();
    }
    let digits = cut(bytes).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    let text = std::str::from_utf8(digits).ok()?;
    if !text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    i64::from_str_radix(text, 8).ok()
}

fn field(bytes: &[u8]) -> Option<u64> {
    signed_field(bytes).and_then(|value| u64::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b"   644 \0"), Some(0o644));
        assert_eq!(field(b"\0\0\0\0"), Some(0));
        assert_eq!(field(b"        "), Some(0));
        assert_eq!(field(b"12x4\0"), None);
        assert_eq!(field(b"-1\0"), None);
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(signed_field(&[0xff; 12]), Some(-1));
        assert_eq!(field(&[0xff; 12]), None);
        assert_eq!(field(&[0xbf, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }

    #[test]
    fn a_truncated_or_foreign_stream_is_told() {
        let limits = Limits::default();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        builder.append_data(&mut header, "a", &b"hello"[..]).unwrap();
        let whole = builder.into_inner().unwrap();
        let all = |data: &[u8]| {
            let mut reader = TarReader::new(Forward(data), &limits);
            std::iter::from_fn(|| reader.next().transpose()).collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(all(&whole).unwrap().len(), 1);
        assert_eq!(all(&whole[..1024]).unwrap().len(), 1, "no end marker");
        for cut in [100, 513, 600, 1023] {
            assert!(all(&whole[..cut]).unwrap_err().to_string().contains("truncated"), "{cut}");
        }
        assert!(all(&[b'x'; 1024]).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn a_huge_long_name_is_refused_before_it_is_read() {
        let limits = Limits::default();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut reader = TarReader::new(Forward(header.as_bytes().chain(io::repeat(b'a'))), &limits);
        assert!(matches!(reader.next(), Err(LayerError::Limit { .. })));
    }
}
