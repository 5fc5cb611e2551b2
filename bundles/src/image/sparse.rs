//! Files with holes.

use std::io::{self, BufRead, Read};

use super::pax::number;

/// A run of bytes that an archive holds of a sparse file; the rest of the file is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Where the data of a sparse file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) segments: Vec<Segment>,
    /// Size of the file with its holes.
    pub(super) size: u64,
}

impl Sparse {
    /// Checks that the segments ascend, stay in the file and account for all `stored` bytes.
    pub(super) fn checked(segments: Vec<Segment>, size: u64, stored: u64) -> Result<Self, String> {
        let mut end = 0;
        let mut sum = 0u64;
        for segment in &segments {
            if segment.offset < end {
                return Err("the segments of a sparse file overlap".into());
            }
            end = segment.offset.checked_add(segment.length).ok_or("a sparse file's size overflows")?;
            sum = sum.checked_add(segment.length).ok_or("a sparse file's size overflows")?;
        }
        if end > size {
            return Err(format!("a sparse file of {size} bytes has a segment that ends at {end}"));
        }
        if sum != stored {
            return Err(format!("a sparse file's segments hold {sum} bytes, its data {stored}"));
        }
        Ok(Self { segments, size })
    }
}

/// Reads the map that format 1.0 puts in front of the data, padded to whole blocks of 512 bytes: the number of segments,
/// then offset and length of each, a decimal number a line. Tells the map and its length with the padding.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn read_map(data: impl Read, segments: usize) -> io::Result<(Vec<Segment>, u64)> {
    let mut blocks = Blocks { data, block: [0; 512], at: 512, read: 0 };
    let count = usize::try_from(blocks.number()?).unwrap_or(usize::MAX);
    if count > segments {
        return Err(io::Error::other(format!("a sparse file has more than {segments} segments (the limit)")));
    }
    let map = (0..count)
        .map(|_| Ok(Segment { offset: blocks.number()?, length: blocks.number()? }))
        .collect::<io::Result<Vec<_>>>()?;
    Ok((map, blocks.read))
}

fn malformed() -> io::Error {
    io::Error::other("a sparse file has a malformed map")
}

/// Takes whole blocks only, so that what follows the map's padding is left.
struct Blocks<R> {
    data: R,
    block: [u8; 512],
    at: usize,
    read: u64,
}

impl<R: Read> Blocks<R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut line = Vec::new();
        self.by_ref().take(21).read_until(b'\n', &mut line)?;
        line.strip_suffix(b"\n").and_then(number).ok_or_else(malformed)
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let count = from.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Blocks<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            self.data.read_exact(&mut self.block).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => malformed(),
                _ => e,
            })?;
            self.at = 0;
            self.read += 512;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_segments() {
        let at = |offset, length| Segment { offset, length };
        assert!(Sparse::checked(vec![at(0, 5), at(10, 2)], 20, 7).is_ok());
        for (segments, size, stored) in [
            (vec![at(0, 5), at(4, 1)], 20, 6),
            (vec![at(0, 5)], 4, 5),
            (vec![at(0, 5)], 5, 4),
            (vec![at(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(Sparse::checked(segments, size, stored).is_err());
        }
    }

    #[test]
    fn reads_a_map_and_its_padding() {
        let mut data = b"2\n0\n5\n1024\n3\n".to_vec();
        data.resize(512, 0);
        data.extend(b"helloabc");
        let mut rest = &data[..];
        let (map, length) = read_map(&mut rest, 4).unwrap();
        assert_eq!((map.len(), length, rest), (2, 512, &b"helloabc"[..]));
        assert!(read_map(&data[..], 1).is_err());
        assert!(read_map(&b"x\n"[..], 1).is_err());
        assert!(read_map(&[b'1'; 1024][..], 1).is_err());
    }
}
