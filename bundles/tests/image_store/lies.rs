//! Headers whose numbers are not true.

use std::fs;
use std::os::unix::fs::MetadataExt;

use bundles::image::Limits;

use crate::support::{Item, Lab, Tar};

type Pax<'a> = &'a [(&'a str, &'a [u8])];

#[test]
fn a_size_that_is_not_the_entrys_is_noticed() {
    let lab = Lab::new();
    let sized = |size: &[u8]| Tar::new().pax(&[("size", size)]).file("f", vec![b'x'; 1024]).file("g", "");
    // Larger than all there is; within the limits or beyond what a file can have.
    assert!(lab.refuses(sized(b"1000000")).contains("truncated"));
    for size in [&b"9223372036854775807"[..], b"9223372036854775296", b"18446744073709551615"] {
        let said = lab.refuses(sized(size));
        assert!(said.contains("wrong size") || said.contains("bytes in a layer (the limit)"), "{said}");
    }
    for size in [&b"-1"[..], b"1e3", b"", b"18446744073709551616", b"0x10", b" 5"] {
        assert!(lab.refuses(sized(size)).contains("wrong value for size"), "{}", String::from_utf8_lossy(size));
    }
    // Smaller: what is left of the data is taken for a header.
    assert!(lab.refuses(sized(b"3")).contains("checksum"));
    // Of what has no data, a size means nothing.
    let root = lab.unpack(Tar::new().pax(&[("size", b"1000000")]).dir("d/").pax(&[("size", b"99")]).symlink("l", "d").file("d/f", "x"));
    assert_eq!(fs::read_to_string(root.join("l/f")).unwrap(), "x");
}

#[test]
fn pax_records_whose_length_lies_are_refused() {
    let lab = Lab::new();
    let records: &[&[u8]] =
        &[b"999 path=a\n", b"5 path=a\n", b"0 path=a\n", b"18446744073709551615 path=a\n", b"-9 path=a\n", b"10 path=ab", b"9 path+a\n", b"path=a\n"];
    for record in records {
        let said = lab.refuses(Tar::new().item(&Item { kind: b'x', name: "x", data: record, ..Item::default() }).file("f", ""));
        assert!(said.contains("an extended header has a"), "{said}");
    }
    // At the end of the archive, with nothing to extend, it says nothing.
    assert_eq!(fs::read_dir(lab.unpack(Tar::new().pax(&[("path", b"a")]))).unwrap().count(), 0);
}

#[test]
fn sparse_files_that_contradict_themselves_are_refused() {
    let lab = Lab::new();
    let sparse = |pax: Pax<'_>, data: &str| lab.refuses(Tar::new().pax(pax).file("f", data));
    let map = |map: &'static [u8]| sparse(&[("GNU.sparse.realsize", b"100"), ("GNU.sparse.map", map)], "abcd");
    assert!(map(b"0,4,2,2").contains("overlap"));
    assert!(map(b"50,2,10,2").contains("overlap"));
    assert!(map(b"98,4").contains("ends at 102"));
    assert!(map(b"0,3").contains("hold 3 bytes, its data 4"));
    assert!(map(b"0,50").contains("hold 50 bytes, its data 4"));
    assert!(map(b"18446744073709551615,4").contains("overflows"));
    assert!(map(b"0,4,").contains("wrong value for GNU.sparse.map"));
    assert!(map(b"0").contains("wrong value for GNU.sparse.map"));
    assert!(sparse(&[("GNU.sparse.map", b"0,4")], "abcd").contains("without a size"));
    assert!(sparse(&[("GNU.sparse.numbytes", b"4")], "abcd").contains("wrong value for GNU.sparse.numbytes"));
    let in_data: Pax<'_> = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"100")];
    for data in ["", "no map", "1\n0\n"] {
        let said = sparse(in_data, data);
        assert!(said.contains("malformed map"), "{data}: {said}");
    }
    let block = |text: &str| format!("{text}{}", "\0".repeat(512 - text.len()));
    assert!(sparse(in_data, &block("70000\n")).contains("more than 65536 segments (the limit)"));
    assert!(sparse(in_data, &block("x\n")).contains("malformed map"));
    assert!(sparse(in_data, &block("1\n0\n4\n")).contains("hold 4 bytes, its data 0"));
}

#[test]
fn gnus_sparse_map_ends_even_when_it_says_it_does_not() {
    let lab = Lab::limited(Limits { sparse_segments: 100, ..Limits::default() });
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..1].copy_from_slice(b"f");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(100);
    header.as_gnu_mut().unwrap().isextended[0] = 1;
    header.set_cksum();
    // Each block says that another follows, and holds no segment.
    let mut block = [0; 512];
    block[504] = 1;
    let said = lab.refuses(Tar::new().raw(header.as_bytes()).raw(&block.repeat(1000)));
    assert!(said.contains("too long map"), "{said}");
    // A directory or a header of another format cannot be sparse.
    let mut ustar = tar::Header::new_ustar();
    ustar.as_old_mut().linkflag[0] = b'S';
    ustar.set_size(0);
    ustar.set_cksum();
    assert!(lab.refuses(Tar::new().raw(ustar.as_bytes())).contains("not GNU's"));
}

#[test]
fn owners_and_times_out_of_range() {
    let lab = Lab::new();
    for key in ["uid", "gid"] {
        // To chown(2) the highest number means "as it is": the file would be root's.
        for id in [&b"4294967295"[..], b"4294967296", b"18446744073709551615"] {
            let said = lab.refuses(Tar::new().pax(&[(key, id)]).file("f", ""));
            assert!(said.contains("is too large"), "{said}");
        }
        assert!(lab.refuses(Tar::new().pax(&[(key, b"-1")]).file("f", "")).contains("wrong value"));
    }
    let highest = Tar::new().pax(&[("uid", b"4294967294"), ("gid", b"4294967294")]).file("f", "");
    let root = lab.unpack(
        ["9223372036854775807", "-9223372036854775807.5", "99999999999", "0.999999999999", "-0.1"]
            .iter()
            .fold(highest, |tar, time| tar.pax(&[("mtime", time.as_bytes())]).file(time, "").pax(&[("mtime", time.as_bytes())]).dir(&format!("d{time}/"))),
    );
    assert_eq!(fs::metadata(root.join("f")).map(|m| (m.uid(), m.gid())).unwrap(), (u32::MAX - 1, u32::MAX - 1));
    assert_eq!(fs::metadata(root.join("0.999999999999")).map(|m| (m.mtime(), m.mtime_nsec())).unwrap(), (0, 999_999_999));
}
