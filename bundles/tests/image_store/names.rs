//! Names, ids and what they find.

use bundles::image::{ImageError, ImageStore, Unused};

use crate::support::{Lab, Tar, docker_archive};

fn load(lab: &Lab, content: &str, tags: &[&str]) -> bundles::image::Image {
    let layer = Tar::new().file("content", content).done();
    lab.load(&docker_archive(tags, &[&layer])).unwrap().remove(0)
}

#[test]
fn short_names_find_what_people_mean() {
    let lab = Lab::new();
    let local = load(&lab, "local", &["localhost/x:1"]);
    let far = load(&lab, "far", &["quay.io/team/tool:latest"]);
    for (name, image) in [("x:1", &local), ("localhost/x:1", &local), ("tool", &far), ("team/tool", &far)] {
        assert_eq!(lab.store.resolve(name).unwrap().as_ref().map(|i| &i.id), Some(&image.id), "{name}");
    }
    for absent in ["x", "x:2", "docker.io/x:1", "quay.io/x:1", "ool", "y"] {
        assert_eq!(lab.store.resolve(absent).unwrap(), None, "{absent}");
    }
    let by_digest = format!("any.io/name@{}", far.digest);
    assert_eq!(lab.store.find(&by_digest).unwrap().id, far.id);
    assert_eq!(lab.store.find(&far.digest).unwrap().id, far.id);
    let exact = load(&lab, "exact", &["x:1"]);
    assert_eq!(lab.store.find("x:1").unwrap().id, exact.id, "docker.io's own comes first");
    load(&lab, "other", &["ghcr.io/other/tool:latest"]);
    assert!(matches!(lab.store.resolve("tool"), Err(ImageError::Ambiguous { candidates, .. }) if candidates.len() == 2));
}

#[test]
fn an_absent_image_brings_near_names() {
    let lab = Lab::new();
    load(&lab, "a", &["nginx:1.25", "localhost/webserver:1"]);
    for (wanted, expected) in [("ngnix:1.25", "docker.io/library/nginx:1.25"), ("nginx", "docker.io/library/nginx:1.25"),
        ("webservr:1", "localhost/webserver:1"), ("toolbx", "minipod.local/toolbox:latest")] {
        let error = lab.store.find(wanted).unwrap_err();
        assert!(matches!(&error, ImageError::NotFound { near, .. } if near[0] == expected), "{wanted}: {error}");
        assert!(error.to_string().contains("not found in the store"));
    }
    assert!(matches!(lab.store.resolve("Bad Name"), Err(ImageError::Reference { .. })));
    assert!(matches!(lab.store.resolve("sha256:xyz"), Err(ImageError::Reference { .. })));
}

#[test]
fn an_empty_store_is_read_without_making_it() {
    let lab = Lab::new();
    assert_eq!(lab.store.resolve("nginx").unwrap(), None);
    assert!(lab.store.list().unwrap().iter().all(|image| image.reference.starts_with("minipod.local/")));
    lab.store.gc(&Unused).unwrap();
    assert!(!lab.lib().exists());
}

#[test]
fn names_move_and_are_listed() {
    let lab = Lab::new();
    let old = load(&lab, "old", &["a:1"]);
    let new = load(&lab, "new", &["a:1", "b:1"]);
    assert_eq!(lab.store.find("a:1").unwrap().id, new.id);
    assert_eq!(lab.store.find(&old.id).unwrap().names.len(), 0, "nameless, but still there");
    lab.store.tag(&old.id, "c").unwrap();
    assert_eq!(lab.store.find("c:latest").unwrap().id, old.id);
    let again = ImageStore::open(&lab.lib()).unwrap();
    let listed: Vec<_> = again.list().unwrap().into_iter().filter(|i| !i.reference.starts_with("minipod.local")).collect();
    assert_eq!(listed.iter().map(|i| &*i.reference).collect::<Vec<_>>(), ["docker.io/library/a:1", "docker.io/library/c:latest"]);
    assert!(lab.store.tag("a:1", "minipod.local/toolbox").is_err());
    assert!(lab.store.tag("absent", "d").is_err());
}

#[test]
fn an_archive_cannot_claim_the_embedded_image() {
    let lab = Lab::new();
    let layer = Tar::new().file("x", "").done();
    assert!(lab.refuses_archive(&docker_archive(&["minipod.local/toolbox:latest"], &[&layer])).contains("belongs"));
}

#[test]
fn images_are_usable_by_serde() {
    let lab = Lab::new();
    let image = load(&lab, "x", &["a:1"]);
    let text = serde_json::to_string(&image).unwrap();
    assert_eq!(serde_json::from_str::<bundles::image::Image>(&text).unwrap(), image);
}
