//! Extended headers of the pax format.

use std::collections::BTreeMap;

use super::sparse::Segment;

/// What an extended header overrides for the entry that follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: Option<(i64, u32)>,
    /// Extended attributes by name; the values are binary.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseKeys,
}

/// The `GNU.sparse.*` keys of the three formats GNU tar has had.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseKeys {
    /// 1.0: the map stands in front of the data.
    pub(super) map_in_data: bool,
    /// Size of the file with its holes.
    pub(super) real_size: Option<u64>,
    /// 0.0 and 0.1: the map itself.
    pub(super) map: Vec<Segment>,
    /// 0.0: an offset that waits for its length.
    offset: Option<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Extensions {
    /// Reads the records of one header: `<length> <key>=<value>\n`, the length counting itself. Values may hold any byte.
    ///
    /// # Errors
    /// What is wrong, in words.
    ///
    /// Spec: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar manual, appendix "Sparse Formats".
    pub(super) fn parse(mut data: &[u8], segments: usize) -> Result<Self, String> {
        let mut all = Self::default();
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or("an extended header has a malformed record")?;
            data = rest;
            let equals = record.iter().position(|&b| b == b'=').ok_or("an extended header has a record without `=`")?;
            all.set(&record[..equals], &record[equals + 1..]).ok_or_else(|| {
                format!("an extended header has a wrong value for {}", String::from_utf8_lossy(&record[..equals]))
            })?;
            if all.sparse.map.len() > segments {
                return Err(format!("a sparse file has more than {segments} segments (the limit)"));
            }
        }
        Ok(all)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) {
                return None;
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        match key {
            b"path" | b"GNU.sparse.name" => self.path = Some(text(value)?),
            b"linkpath" => self.link = Some(text(value)?),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.map_in_data = number(value)? == 1,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(number(value)?),
            b"GNU.sparse.map" => self.sparse.map = map(value)?,
            b"GNU.sparse.offset" => self.sparse.offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take()?;
                self.sparse.map.push(Segment { offset, length: number(value)? });
            }
            _ => {}
        }
        Some(())
    }
}

/// The next record without its length and newline, and what follows it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(number(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &data[length..]))
}

/// Names go to the kernel, where a NUL would cut them.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

/// Decimal digits only.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `offset,length,offset,length,...`
fn map(value: &[u8]) -> Option<Vec<Segment>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let numbers = value.split(|&b| b == b',').map(number).collect::<Option<Vec<_>>>()?;
    let pairs = numbers.chunks(2).map(|pair| Some(Segment { offset: pair[0], length: *pair.get(1)? }));
    pairs.collect()
}

/// Decimal seconds with an optional sign and fraction.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let dot = value.iter().position(|&b| b == b'.').unwrap_or(value.len());
    let seconds = i64::try_from(number(&value[..dot])?).ok()?;
    let fraction = value.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn reads_records() {
        let data = [
            record("path", "ä/b".as_bytes()),
            record("SCHILY.xattr.security.capability", b"\x01\n\0=\n"),
            record("size", b"9999999999"),
            record("mtime", b"-1.25"),
            record("comment", b"\0"),
            record("GNU.sparse.map", b"0,5,10,6"),
        ]
        .concat();
        let all = Extensions::parse(&data, 10).unwrap();
        assert_eq!(all.path.as_deref(), Some("ä/b".as_bytes()));
        assert_eq!(all.xattrs[&b"security.capability"[..]], b"\x01\n\0=\n");
        assert_eq!(all.size, Some(9_999_999_999));
        assert_eq!(all.mtime, Some((-2, 750_000_000)));
        assert_eq!(all.sparse.map, [Segment { offset: 0, length: 5 }, Segment { offset: 10, length: 6 }]);
        assert!(Extensions::parse(&record("GNU.sparse.map", b"0,5,10,6"), 1).is_err());
    }

    #[test]
    fn refuses_malformed_ones() {
        for wrong in [&b"5 a=b\n"[..], b"x", b"99 a=b\n", b"6 a=bc", b"0 a=b\n", b"5 ab\n", b"-6 a=b\n", b"2 \n"] {
            assert!(Extensions::parse(wrong, 10).is_err(), "{:?}", String::from_utf8_lossy(wrong));
        }
        for (key, value) in [("path", &b""[..]), ("path", b"a\0b"), ("size", b"-1"), ("uid", b"1e3"), ("mtime", b"1.x")] {
            assert!(Extensions::parse(&record(key, value), 10).is_err(), "{key}");
        }
        assert!(Extensions::parse(&record("GNU.sparse.numbytes", b"1"), 10).is_err());
    }
}
