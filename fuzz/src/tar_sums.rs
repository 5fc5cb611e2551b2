//! Mends the checksums of a tar, so that mutated headers are looked at and not just refused.

const BLOCK: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;

/// Mends the checksum of every header that a reader would come to.
pub fn mend(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at = at.saturating_add(data(header));
    }
}

/// Bytes of an entry's data, with the padding behind it.
fn data(header: &[u8]) -> usize {
    let digits: String = header[124..136].iter().map(|byte| char::from(*byte)).filter(|c| c.is_digit(8)).collect();
    let has_data = !matches!(header[156], b'1'..=b'6');
    let size = usize::from_str_radix(&digits, 8).unwrap_or_default();
    if has_data { size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX) } else { 0 }
}
