//! The image inside the program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bundles::image::{Force, ImageError, ImageStore, Program, Unused, user};

use crate::support::{Lab, Layers, hex, zstd};

fn program(content: &str) -> Program {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Program {
        bytes: Box::leak(zstd(content.as_bytes()).into_boxed_slice()),
        applets: &["sh", "ls", "toolbox"],
        digest: leak(hex(content.as_bytes())),
        size: content.len() as u64,
    }
}

fn store(lab: &Lab, program: Program) -> ImageStore {
    ImageStore::open(&lab.lib()).unwrap().with_program(program)
}

#[test]
fn it_is_unpacked_on_first_use() {
    let lab = Lab::new();
    let store = store(&lab, program("one"));
    let image = store.find("toolbox").unwrap();
    assert_eq!(image.reference, "minipod.local/toolbox:latest");
    assert_eq!(image.config.cmd, ["sh"]);
    for name in ["toolbox:latest", "minipod.local/toolbox", &image.id, &image.digest, &image.id[7..19]] {
        assert_eq!(store.find(name).unwrap(), image, "{name}");
    }
    let root = &image.layers[0];
    assert_eq!(fs::read_to_string(root.join("bin/toolbox")).unwrap(), "one");
    assert_eq!(fs::read_to_string(root.join("usr/bin/sh")).unwrap(), "one");
    assert_eq!(fs::read_link(root.join("bin/ls")).unwrap(), Path::new("toolbox"));
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("."), mode("tmp"), mode("root"), mode("bin/toolbox")), (0o755, 0o1777, 0o700, 0o755));
    assert_eq!(user::resolve(root, "user").unwrap().home.as_deref(), Some("/home/user"));
    assert_eq!(user::resolve(root, "").unwrap().uid, 0);
    assert_eq!(store.list().unwrap(), [image]);
}

#[test]
fn another_program_is_another_image_and_gc_removes_the_old_one() {
    let lab = Lab::new();
    let old = store(&lab, program("one")).find("toolbox").unwrap();
    let new_store = store(&lab, program("two!"));
    let new = new_store.find("toolbox").unwrap();
    assert_ne!(old.id, new.id);
    assert_eq!(new_store.gc(&Layers(vec![old.layers[0].clone()])).unwrap().kept, 1);
    assert_eq!(new_store.gc(&Unused).unwrap().layers, 1);
    assert!(!old.layers[0].exists() && new.layers[0].exists());
    assert_eq!(new_store.remove("toolbox", &Unused, Force::No).unwrap().deleted, std::slice::from_ref(&new.id));
    assert!(!new.layers[0].exists());
    assert_eq!(new_store.find("toolbox").unwrap(), new, "it comes back");
}

#[test]
fn a_cut_or_wrong_program_is_noticed() {
    let lab = Lab::new();
    let whole = store(&lab, program("one"));
    let image = whole.find("toolbox").unwrap();
    fs::write(image.layers[0].join("bin/toolbox"), "").unwrap();
    whole.find("toolbox").unwrap();
    assert_eq!(fs::read_to_string(image.layers[0].join("bin/toolbox")).unwrap(), "one");
    let lying = Program { digest: program("other").digest, ..program("one") };
    assert!(matches!(store(&lab, lying).find("toolbox"), Err(ImageError::Toolbox { .. })));
    let none = Program { bytes: &[], ..program("one") };
    assert!(matches!(store(&lab, none).resolve("toolbox"), Err(ImageError::NoToolbox)));
}

#[test]
fn the_real_one_unpacks() {
    let lab = Lab::new();
    let image = lab.store.find("toolbox").unwrap();
    assert_eq!(fs::metadata(image.layers[0].join("bin/toolbox")).unwrap().len(), image.size);
    for applet in Program::EMBEDDED.applets {
        assert!(image.layers[0].join("usr/bin").join(applet).exists(), "{applet}");
    }
}
