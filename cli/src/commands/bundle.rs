//! `minipod bundle`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bundles::plan::{ContainerPlan, IpcMode, NetworkMode, PidMode, PodPlan, RootSource, VolumeSource};
use bundles::spec::{self, Namespace, Namespaces, PodFiles, SpecContext};
use bundles::volume::{Missing, VolumeError};
use clap::Args;
use oci_spec::runtime::Spec;

use crate::args::Global;
use crate::error::{Error, print};
use crate::images::{self, Fetch};
use crate::layers;
use crate::manifests;
use crate::registries::RegistryOptions;
use crate::output::{self, line};

/// The oldest version that has all we write: crun 1.8 takes no other than 1.0.
const VERSION: &str = "1.0.2";

/// Write the OCI bundles of a manifest, ready for runc or crun
///
/// DIR/<container>/ gets config.json and rootfs/, a copy of the image. Each bundle stands for itself, with namespaces of its own
/// where the pod's would be joined; emptyDir volumes and copies of image volumes are in DIR/volumes/, which the bundles share.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod bundle pod.yaml -o out
  runc run --bundle out/app app")]
pub(crate) struct Bundle {
    /// Where to write; made when missing, and empty before
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    registries: RegistryOptions,
    /// A manifest of one pod; `-` is standard input
    #[arg(value_name = "FILE|-")]
    file: String,
}

impl Bundle {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let sources = manifests::read(std::slice::from_ref(&self.file))?;
        let mut manifest = manifests::parse(&sources, manifests::Strictness::Lenient, global.log_format)?;
        let [pod] = &mut manifest.pods[..] else {
            return Err(Error::Usage(format!("bundles are of one pod, and {} holds {}", self.file, manifest.pods.len())));
        };
        let store = global.store();
        let pod = std::slice::from_mut(pod);
        let _hold = images::resolve(&store.layout, global.log_format, pod, Fetch::AsAsked(&self.registries))?;
        let [pod] = pod else { unreachable!("a slice of one") };
        let directory = std::path::absolute(&self.output).map_err(Error::file("make absolute", &self.output))?;
        let guard = Fresh::make(&directory)?;
        let mut text = String::new();
        let writer = Writer::new(&pod.plan, &directory)?;
        for container in pod.plan.init_containers.iter().chain(&pod.plan.containers) {
            let bundle = writer.container(container)?;
            line(&mut text, format_args!("{}", bundle.display()));
        }
        guard.keep();
        print(&text)?;
        Ok(0)
    }
}

/// A directory that was empty: its content goes again when something fails.
struct Fresh<'a>(Option<&'a Path>);

impl<'a> Fresh<'a> {
    fn make(path: &'a Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
        if fs::read_dir(path).map_err(Error::file("read", path))?.next().is_some() {
            return Err(Error::Usage(format!("directory {} is not empty: choose another, or remove it", path.display())));
        }
        Ok(Self(Some(path)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(e) = fs::remove_dir_all(path)
        {
            output::note(&format!("warning: {} stays behind: {e}", path.display()));
        }
    }
}

struct Writer<'a> {
    plan: &'a PodPlan,
    directory: &'a Path,
    volumes: BTreeMap<String, PathBuf>,
    namespaces: Namespaces,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a PodPlan, directory: &'a Path) -> Result<Self, Error> {
        let mut volumes = BTreeMap::new();
        for (name, source) in &plan.volumes {
            let path = match source {
                VolumeSource::HostPath { path, .. } => path.clone(),
                VolumeSource::EmptyDir { .. } | VolumeSource::Image { .. } => directory.join("volumes").join(name),
            };
            match source {
                VolumeSource::EmptyDir { .. } => make_open(&path)?,
                VolumeSource::Image { image: Some(image), .. } => copy_image(&image.layers, &path)?,
                // Used where it is; an image was looked up before.
                VolumeSource::HostPath { .. } | VolumeSource::Image { image: None, .. } => {}
            }
            volumes.insert(name.clone(), path);
        }
        let namespaces = Namespaces {
            network: if plan.network == NetworkMode::Host { Namespace::Host } else { Namespace::New },
            uts: if plan.network == NetworkMode::Host { Namespace::Host } else { Namespace::New },
            ipc: if plan.ipc == IpcMode::Host { Namespace::Host } else { Namespace::New },
            pid: if plan.pid == PidMode::Host { Namespace::Host } else { Namespace::New },
        };
        Ok(Self { plan, directory, volumes, namespaces })
    }

    /// Writes one bundle; its directory.
    fn container(&self, container: &ContainerPlan) -> Result<PathBuf, Error> {
        let bundle = self.directory.join(&container.name);
        fs::create_dir(&bundle).map_err(Error::file("create", &bundle))?;
        let rootfs = bundle.join("rootfs");
        match &container.root {
            RootSource::Image(image) => layers::merge(&image.layers, &rootfs)?,
            RootSource::Directory(from) => layers::copy(from, &rootfs)?,
            // Used where it is.
            RootSource::Bundle(_) | RootSource::Reference => {}
        }
        let image_volumes = self.image_volumes(container, &bundle)?;
        let mut spec = self.spec(container, &rootfs, &image_volumes)?;
        if rootfs.is_dir()
            && let Some(root) = spec.root_mut()
        {
            // Relative: the bundle may be moved.
            root.set_path("rootfs".into());
        }
        spec::write(&bundle, &spec).map_err(|source| self.failed(container, source))?;
        Ok(bundle)
    }

    /// The directories that the image wants, in the bundle, for they are this container's alone.
    fn image_volumes(&self, container: &ContainerPlan, bundle: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, Error> {
        let mut filled = BTreeMap::new();
        for (number, place) in self.volumes_of_image(container)?.into_iter().enumerate() {
            let path = bundle.join("volumes").join(number.to_string());
            fs::create_dir_all(bundle.join("volumes")).map_err(Error::file("create", bundle))?;
            bundles::volume::fill(&bundle.join("rootfs"), &place, &path).map_err(|e| self.failed_volume(&place.display().to_string(), e))?;
            filled.insert(place, path);
        }
        Ok(filled)
    }

    fn volumes_of_image(&self, container: &ContainerPlan) -> Result<Vec<PathBuf>, Error> {
        bundles::volume::of_image(container).map_err(|e| self.failed_volume(&container.name, e))
    }

    fn spec(&self, container: &ContainerPlan, rootfs: &Path, image_volumes: &BTreeMap<PathBuf, PathBuf>) -> Result<Spec, Error> {
        let sub_paths = self.sub_paths(container)?;
        let node = rustix::system::uname();
        let context = SpecContext {
            rootfs: rootfs.is_dir().then_some(rootfs),
            pod_ip: None,
            node_name: &node.nodename().to_string_lossy(),
            files: PodFiles::default(),
            volumes: &self.volumes,
            sub_paths: &sub_paths,
            image_volumes,
            namespaces: &self.namespaces,
            cgroups_path: "",
            // cgroup(7): the root of a unified hierarchy has this file.
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            seccomp_root: Path::new("/var/lib/kubelet/seccomp"),
        };
        let mut spec = spec::container(self.plan, container, &context).map_err(|source| self.failed(container, source))?;
        spec.set_version(VERSION.to_owned());
        if self.namespaces.uts == Namespace::New {
            spec.set_hostname(Some(self.plan.hostname.clone()));
        }
        if let Some(linux) = spec.linux_mut() {
            // The runtime chooses the cgroup; minipod, which has its own, does not put the limits into the spec.
            linux.set_cgroups_path(None);
            linux.set_resources(Some(spec::resources(container)));
        }
        Ok(spec)
    }

    /// Sub paths where they are in the volumes; missing ones of emptyDirs are made. Links of an image are followed inside it.
    fn sub_paths(&self, container: &ContainerPlan) -> Result<BTreeMap<(String, PathBuf), PathBuf>, Error> {
        let mut found = BTreeMap::new();
        for mount in &container.mounts {
            if let (Some(sub), Some(volume)) = (&mount.sub_path, self.volumes.get(&mount.volume)) {
                let path = match self.plan.volumes.get(&mount.volume) {
                    Some(VolumeSource::Image { .. }) => self.path_in_image(&mount.volume, volume, sub)?,
                    _ => volume.join(sub),
                };
                if !path.exists() {
                    make_open(&path)?;
                }
                found.insert((mount.volume.clone(), sub.clone()), path);
            }
        }
        Ok(found)
    }

    /// Where a sub path of an image volume leads, without a link on the way.
    fn path_in_image(&self, name: &str, volume: &Path, sub: &Path) -> Result<PathBuf, Error> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let found = bundles::volume::sub_path(volume, sub, Missing::Refuse).map_err(|e| self.failed_volume(name, e))?;
        let link = PathBuf::from(format!("/proc/self/fd/{}", found.as_fd().as_raw_fd()));
        fs::read_link(&link).map_err(Error::file("read link", &link))
    }

    fn failed_volume(&self, volume: &str, source: VolumeError) -> Error {
        Error::Volume { pod: format!("{}/{}", self.plan.namespace, self.plan.name), volume: volume.to_owned(), source }
    }

    fn failed(&self, container: &ContainerPlan, source: spec::SpecError) -> Error {
        let pod = format!("{}/{}", self.plan.namespace, self.plan.name);
        Error::Spec { pod, container: container.name.clone(), source: Box::new(source) }
    }
}

fn copy_image(layers: &[PathBuf], to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    layers::merge(layers, to)
}

/// Makes a directory that any user of a container may write, as an emptyDir is.
fn make_open(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(Error::file("change mode of", path))
}
