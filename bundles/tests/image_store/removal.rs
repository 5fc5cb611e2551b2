//! What goes when an image goes.

use std::fs;
use std::path::Path;

use bundles::image::{Force, ImageError, Pruned, Unused, Usage};

use crate::support::{Lab, Layers, Tar, docker_archive};

fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, name).done()
}

#[test]
fn shared_layers_stay_until_the_last_image_goes() {
    let lab = Lab::new();
    let (low, one, two) = (layer("low"), layer("one"), layer("two"));
    let first = lab.load(&docker_archive(&["a:1", "b:1"], &[&low, &one])).unwrap().remove(0);
    let second = lab.load(&docker_archive(&["c:1"], &[&low, &two])).unwrap().remove(0);
    let removed = lab.store.remove("a:1", &Unused, Force::No).unwrap();
    assert_eq!((removed.untagged, removed.deleted.len(), removed.layers), (vec!["docker.io/library/a:1".into()], 0, 0));
    let removed = lab.store.remove("b:1", &Unused, Force::No).unwrap();
    assert_eq!((removed.deleted, removed.layers, removed.bytes), (vec![first.id.clone()], 1, 3));
    assert!(!first.layers[0].exists() && second.layers.iter().all(|l| l.exists()));
    assert_eq!(lab.store.find("c:1").unwrap(), second);
    assert!(matches!(lab.store.remove("a:1", &Unused, Force::No), Err(ImageError::NotFound { .. })));
    assert_eq!(lab.store.remove(&second.id, &Unused, Force::No).unwrap().untagged, ["docker.io/library/c:1"]);
    fs::remove_file(lab.lib().join("images/index.json")).unwrap();
    lab.assert_clean();
}

#[test]
fn layers_in_use_stay_for_gc() {
    let lab = Lab::new();
    let image = lab.load(&docker_archive(&["a:1"], &[&layer("x"), &layer("y")])).unwrap().remove(0);
    let used = image.layers[0].clone();
    let removed = lab.store.remove("a:1", &Layers(vec![used.clone()]), Force::Yes).unwrap();
    assert_eq!((removed.layers, removed.kept), (1, 1));
    assert!(used.join("y").exists());
    assert_eq!(lab.store.gc(&Layers(vec![used.clone()])).unwrap().layers, 0);
    let removed = lab.store.gc(&Unused).unwrap();
    assert_eq!((removed.layers, removed.kept, used.exists()), (1, 0, false));
}

#[test]
fn gc_removes_what_nobody_needs_and_nothing_else() {
    let lab = Lab::new();
    let image = lab.load(&docker_archive(&["a:1"], &[&layer("x")])).unwrap().remove(0);
    let nameless = lab.load(&docker_archive(&[], &[&layer("y")])).unwrap().remove(0);
    let images = lab.lib().join("images");
    fs::create_dir_all(images.join("tmp/load-crash/deep/er")).unwrap();
    fs::create_dir_all(images.join("layers/sha256/0123/fs")).unwrap();
    fs::write(images.join("blobs/sha256/.new-crash"), "x").unwrap();
    fs::write(images.join(".new-crash"), "x").unwrap();
    lab.store.gc(&Unused).unwrap();
    for gone in ["tmp/load-crash", "layers/sha256/0123", "blobs/sha256/.new-crash", ".new-crash"] {
        assert!(!images.join(gone).exists(), "{gone}");
    }
    assert_eq!(lab.store.find("a:1").unwrap(), image);
    assert_eq!(lab.store.find(&nameless.id).unwrap(), nameless, "gc keeps images without a name");
    assert_eq!(lab.store.prune(&Unused, Pruned::Nameless).unwrap().deleted, [nameless.id]);
    assert_eq!(lab.store.find("a:1").unwrap(), image);
}

#[test]
fn a_lost_layer_is_told_and_repaired_by_loading_again() {
    let lab = Lab::new();
    let archive = docker_archive(&["a:1"], &[&layer("x")]);
    let image = lab.load(&archive).unwrap().remove(0);
    fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    assert!(matches!(lab.store.resolve("a:1"), Err(ImageError::LayerMissing { .. })));
    assert_eq!(lab.load(&archive).unwrap(), [image]);
}

/// A pod uses the image with this id.
struct Pod(String);

impl Usage for Pod {
    fn pods(&self, id: &str) -> Vec<String> {
        if id == self.0 { vec!["pod default/web".into()] } else { Vec::new() }
    }

    fn layer(&self, _: &Path) -> bool {
        false
    }
}

#[test]
fn an_image_in_use_keeps_its_last_name_unless_somebody_insists() {
    let lab = Lab::new();
    let image = lab.load(&docker_archive(&["a:1", "b:1"], &[&layer("x")])).unwrap().remove(0);
    let pod = Pod(image.id.clone());
    assert_eq!(lab.store.remove("a:1", &pod, Force::No).unwrap().untagged, ["docker.io/library/a:1"]);
    for reference in ["b:1", &image.id] {
        let error = lab.store.remove(reference, &pod, Force::No).unwrap_err();
        assert!(matches!(&error, ImageError::InUse { pods, .. } if pods == &["pod default/web"]), "{error}");
    }
    assert_eq!(lab.store.find("b:1").unwrap().id, image.id);
    assert_eq!(lab.store.remove("b:1", &pod, Force::Yes).unwrap().deleted, [image.id]);
    assert_eq!(lab.store.resolve("b:1").unwrap(), None);
}

#[test]
fn prune_takes_nameless_images_or_all_that_no_pod_uses() {
    let lab = Lab::new();
    let shared = layer("shared");
    let used = lab.load(&docker_archive(&[], &[&shared, &layer("used")])).unwrap().remove(0);
    let nameless = lab.load(&docker_archive(&[], &[&shared, &layer("nameless")])).unwrap().remove(0);
    let named = lab.load(&docker_archive(&["a:1"], &[&shared, &layer("named")])).unwrap().remove(0);
    let pod = Pod(used.id.clone());
    assert_eq!(lab.store.prune(&pod, Pruned::Nameless).unwrap().deleted, [nameless.id]);
    let removed = lab.store.prune(&pod, Pruned::All).unwrap();
    assert_eq!((removed.deleted, removed.untagged), (vec![named.id], vec!["docker.io/library/a:1".to_owned()]));
    assert_eq!(lab.store.find(&used.id).unwrap(), used);
    assert!(used.layers.iter().all(|layer| layer.is_dir()));
    assert_eq!(lab.store.prune(&Unused, Pruned::All).unwrap().deleted, [used.id]);
}
