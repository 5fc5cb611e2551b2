//! `minipod run`.

use std::net::Ipv4Addr;
use std::time::Duration;

use bundles::image::Hold;
use bundles::image::Image;
use bundles::manifest::{Manifest, PodManifest, publish_all};
use bundles::plan::{ContainerPlan, HostPort, NetworkMode, PodPlan, Protocol, RootSource, VolumeSource};
use clap::{Args, ValueEnum};
use runtime::pods::{NetworkOptions, create, preflight};
use runtime::step;
use runtime::store::Store;

use crate::args::Global;
use crate::attached::attach;
use crate::commands::wait::{until_ready, within};
use crate::duration;
use crate::error::{Error, print};
use crate::exit;
use crate::images::{self, Fetch};
use crate::manifests;
use crate::output::{self, line};
use crate::pods::{self, View};
use crate::registries::RegistryOptions;
use crate::signals::Held;
use crate::starting::{Display, Starting, all_started, spawn};
use crate::stopping::{self, Pod, Then};
use crate::tasks::block_on;

/// Run the pods of manifests
///
/// In the foreground the containers' log lines are shown, prefixed `[container] ` (`[pod/container] ` with several pods), until
/// no container will run again; then the pods are removed. Ctrl-C or SIGTERM stops them gracefully, a second one kills them.
/// Everything that can be checked is checked before anything is made: images, names, host ports, addresses.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod run pod.yaml
  minipod run -d --wait-ready --timeout 30s pod.yaml
  minipod run --replace --publish 127.0.0.1:8080:80 pod.yaml
  kubectl get pod web -o yaml | minipod run -

Exit codes: 0, or the first of a container that is not 0; 124 the time is over, 125 minipod failed, 126 a command cannot be
run, 127 it was not found.")]
pub(crate) struct Run {
    /// Leave the pods running; return when all app containers have started
    #[arg(short, long)]
    detach: bool,
    /// Remove pods of the same names first
    #[arg(long)]
    replace: bool,
    /// Check everything and say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// With -d: return when all containers are ready
    #[arg(long, requires = "detach")]
    wait_ready: bool,
    /// Wait no longer than this (exit code 124); in the foreground the pods are then stopped and removed
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Unknown fields, and names that Kubernetes would refuse, are errors
    #[arg(long)]
    strict: bool,
    /// Manifests to read besides, for what the pods refer to
    #[arg(long = "configmap", value_name = "FILE")]
    configmaps: Vec<String>,
    /// Lead a port of the host to a container's; replaces the manifest's hostPort of that container port
    #[arg(long, value_name = "[IP:]HOST:CTR[/PROTO]")]
    publish: Vec<String>,
    /// This address for the pod (one pod only)
    #[arg(long, value_name = "A")]
    ip: Option<Ipv4Addr>,
    /// Whose network the pods have, instead of what the manifest says
    #[arg(long, value_enum, value_name = "NETWORK")]
    network: Option<Network>,
    #[command(flatten)]
    registries: RegistryOptions,
    /// Manifests; `-` is standard input, a directory its .yaml, .yml and .json files
    #[arg(required = true, value_name = "FILE|-")]
    files: Vec<String>,
}

/// Whose network the pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// Their own, on the bridge.
    Bridge,
    /// The host's.
    Host,
    /// Their own, with loopback only.
    None,
}

impl Run {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let (manifest, hold) = self.prepare(global, &store)?;
        let wanted = self.network_options(global);
        if self.dry_run {
            return self.describe(&store, &manifest, &wanted);
        }
        if self.replace {
            block_on(replace(&store, &manifest))?;
        }
        let network = block_on(check(&store, &manifest, &wanted))?;
        // From the first file on disk, a signal must not end us without undoing.
        let held = Held::new()?;
        let mut starting = begin(&store, &manifest, &network)?;
        // The plans on disk keep the layers from now on.
        drop(hold);
        let display = Display::new(global, starting.len());
        if self.detach {
            block_on(self.detached(&store, &mut starting, &display, held))
        } else {
            block_on(attach(&store, starting, &display, held, self.timeout))
        }
    }

    /// Reads the manifests, applies the options, and finds the images.
    fn prepare(&self, global: &Global, store: &Store) -> Result<(Manifest, Option<Hold>), Error> {
        let parse = step::reading("read manifests");
        let mut files = self.files.clone();
        files.extend(self.configmaps.iter().cloned());
        let mut manifest = manifests::parse(&manifests::read(&files)?, self.strict.into(), global.log_format)?;
        self.apply(&mut manifest)?;
        drop(parse);
        let _find = step::reading("find images");
        let fetch = if self.dry_run { Fetch::No } else { Fetch::AsAsked(&self.registries) };
        let hold = images::resolve(&store.layout, global.log_format, &mut manifest.pods, fetch)?;
        Ok((manifest, hold))
    }

    fn apply(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if manifest.pods.len() > 1 && (self.ip.is_some() || !self.publish.is_empty()) {
            let option = if self.ip.is_some() { "--ip" } else { "--publish" };
            let message = format!("{option} is for one pod, and the manifests hold {}", manifest.pods.len());
            return Err(Error::Usage(message));
        }
        for pod in &mut manifest.pods {
            if let Some(network) = self.network {
                set_network(pod, network);
            }
            let ports: Vec<&str> = self.publish.iter().map(String::as_str).collect();
            publish_all(&mut pod.plan, &ports).map_err(|why| Error::Usage(format!("--publish: {why}")))?;
            if let Some(ip) = self.ip
                && pod.plan.network != NetworkMode::Pod
            {
                return Err(Error::Usage(format!("--ip {ip}: pod {} has no address of its own", pod.plan.name)));
            }
        }
        Ok(())
    }

    fn network_options(&self, global: &Global) -> NetworkOptions {
        NetworkOptions {
            bridge: global.bridge.clone(),
            pod_cidr: global.pod_cidr,
            cluster_cidr: global.cluster_cidr(),
            address: self.ip,
        }
    }

    /// Says what would be done, after every check.
    fn describe(&self, store: &Store, manifest: &Manifest, wanted: &NetworkOptions) -> Result<u8, Error> {
        let mut text = String::new();
        let mut others = Vec::new();
        for pod in &manifest.pods {
            match store.owner(&pod.plan.namespace, &pod.plan.name)? {
                Some(_) if self.replace => {
                    line(&mut text, format_args!("pod/{} would be removed first", pod.plan.name));
                }
                _ => others.push(pod.plan.clone()),
            }
        }
        let network = block_on(checked(store, &others, wanted))?;
        for pod in &manifest.pods {
            describe_pod(&mut text, &pod.plan, &network);
        }
        line(&mut text, format_args!("nothing was changed (--dry-run)"));
        print(&text)?;
        Ok(0)
    }

    /// `-d`: waits until the pods have started (or are ready), and leaves them. A signal before that undoes it all.
    async fn detached(&self, store: &Store, starting: &mut [Starting], display: &Display, held: Held) -> Result<u8, Error> {
        let all: Vec<Pod> = starting.iter().map(|one| one.pod.clone()).collect();
        let names = all.iter().map(|(_, record)| record.label()).collect::<Vec<_>>().join(", ");
        let mut signals = held.listen()?;
        let up = async {
            all_started(starting, display).await?;
            if self.wait_ready {
                let views = all.iter().map(|(dir, record)| View::load(dir.clone(), record.clone()));
                let views: Vec<View> = views.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
                futures::future::try_join_all(views.iter().map(until_ready)).await?;
            }
            Ok(())
        };
        let goal = if self.wait_ready { "ready" } else { "started" };
        let number = tokio::select! {
            result = within(self.timeout, &names, goal, up) => {
                display.clear();
                result?;
                print(&all.iter().map(|(_, record)| format!("pod/{} {goal}\n", pods::short_name(record))).collect::<String>())?;
                return Ok(0);
            }
            number = signals.next() => number,
        };
        display.clear();
        output::note("interrupted: removing what was begun");
        let gone = futures::future::join_all(all.iter().map(|pod| stopping::stop(store, pod, Some(Duration::ZERO), Then::Remove)));
        let gone = gone.await.into_iter().zip(&all);
        Error::all(gone.filter_map(|(result, pod)| result.err().filter(|_| pod.0.path.exists())).collect())?;
        Ok(exit::by_signal(number))
    }
}

fn set_network(pod: &mut PodManifest, network: Network) {
    pod.plan.network = match network {
        Network::Bridge => NetworkMode::Pod,
        Network::Host => NetworkMode::Host,
        Network::None => NetworkMode::None,
    };
    if let Some(spec) = &mut pod.pod.spec {
        spec.host_network = (network == Network::Host).then_some(true);
    }
}

/// Removes pods that have the names of those to come.
async fn replace(store: &Store, manifest: &Manifest) -> Result<(), Error> {
    let mut old: Vec<Pod> = Vec::new();
    for pod in &manifest.pods {
        if let Some(dir) = store.owner(&pod.plan.namespace, &pod.plan.name)? {
            let record = dir.record()?;
            old.push((dir, record));
        }
    }
    let gone = futures::future::join_all(old.iter().map(|pod| stopping::stop(store, pod, None, Then::Remove))).await;
    Error::all(gone.into_iter().filter_map(Result::err).collect())
}

async fn check(store: &Store, manifest: &Manifest, wanted: &NetworkOptions) -> Result<NetworkOptions, Error> {
    let _check = step::reading("check names, ports and addresses");
    let plans: Vec<PodPlan> = manifest.pods.iter().map(|pod| pod.plan.clone()).collect();
    checked(store, &plans, wanted).await
}

async fn checked(store: &Store, plans: &[PodPlan], wanted: &NetworkOptions) -> Result<NetworkOptions, Error> {
    let chosen = match preflight(store, plans, wanted).await {
        Ok(chosen) => chosen,
        Err(problems) => {
            let mut problems: Vec<Error> = problems.into_iter().map(Error::from).collect();
            return Err(if problems.len() == 1 { problems.remove(0) } else { Error::Several(problems) });
        }
    };
    if chosen.pod_cidr != wanted.pod_cidr {
        let message = format!("pods get addresses of {}: {} overlaps a route of this host", chosen.pod_cidr, wanted.pod_cidr);
        output::note(&format!("note: {message}"));
    }
    Ok(chosen)
}

/// Puts every pod on disk, then forks their shims; all, or nothing is left.
fn begin(store: &Store, manifest: &Manifest, network: &NetworkOptions) -> Result<Vec<Starting>, Error> {
    let mut new = Vec::new();
    for PodManifest { plan, pod, .. } in &manifest.pods {
        match create(store, plan, pod, network) {
            Ok(created) => new.push(created),
            Err(e) => {
                let mut failures = vec![Error::from(e)];
                failures.extend(new.into_iter().filter_map(|other| other.discard(store).err()).map(Error::from));
                return Err(if failures.len() == 1 { failures.remove(0) } else { Error::Several(failures) });
            }
        }
    }
    spawn(store, new)
}

fn describe_pod(text: &mut String, plan: &PodPlan, network: &NetworkOptions) {
    line(text, format_args!("pod {}/{}", plan.namespace, plan.name));
    match (plan.network, network.address) {
        (NetworkMode::Host, _) => line(text, format_args!("  network    the host's")),
        (NetworkMode::None, _) => line(text, format_args!("  network    loopback only")),
        (NetworkMode::Pod, Some(ip)) => line(text, format_args!("  network    bridge {}, {ip} of {}", network.bridge, network.pod_cidr)),
        (NetworkMode::Pod, None) => line(text, format_args!("  network    bridge {}, an address of {}", network.bridge, network.pod_cidr)),
    }
    for (name, source) in &plan.volumes {
        line(text, format_args!("  volume     {name}: {}", volume(source)));
    }
    for container in &plan.init_containers {
        describe_container(text, "init      ", container);
    }
    for container in &plan.containers {
        describe_container(text, "container ", container);
    }
}

fn volume(source: &VolumeSource) -> String {
    match source {
        VolumeSource::EmptyDir { memory: true, .. } => "a fresh tmpfs".to_owned(),
        VolumeSource::EmptyDir { memory: false, .. } => "a fresh directory".to_owned(),
        VolumeSource::HostPath { path, .. } => format!("{} of this host", path.display()),
        VolumeSource::Image { reference, image: None, .. } => format!("image {reference}, read-only"),
        VolumeSource::Image { image: Some(image), .. } => format!("image {}, read-only", named(image)),
    }
}

/// An image by its name and the beginning of its id.
fn named(image: &Image) -> String {
    format!("{} ({})", image.reference, image.id.get(..19).unwrap_or(&image.id))
}

fn describe_container(text: &mut String, role: &str, container: &ContainerPlan) {
    let root = match &container.root {
        RootSource::Reference => format!("{} (would be pulled)", container.image),
        RootSource::Image(image) => named(image),
        RootSource::Directory(path) => format!("directory {}", path.display()),
        RootSource::Bundle(path) => format!("bundle {}", path.display()),
    };
    line(text, format_args!("  {role} {}: {root}", container.name));
    if let Some(command) = command(container) {
        line(text, format_args!("             runs {}", command.join(" ")));
    }
    // What is wrong with them is told before.
    for place in bundles::volume::of_image(container).unwrap_or_default() {
        line(text, format_args!("             volume {}: a fresh directory, for the image wants it", place.display()));
    }
    for port in &container.host_ports {
        line(text, format_args!("             port {}", mapping(port)));
    }
}

/// What is going to be executed (before `$(VAR)` is expanded), as far as it is known before the bundle is read.
fn command(container: &ContainerPlan) -> Option<Vec<String>> {
    let (entrypoint, cmd) = match &container.root {
        RootSource::Image(image) => (image.config.entrypoint.clone(), image.config.cmd.clone()),
        _ => (Vec::new(), Vec::new()),
    };
    let args = match (&container.command, &container.args) {
        (Some(command), args) => [command.clone(), args.clone().unwrap_or_default()].concat(),
        (None, Some(args)) => [entrypoint, args.clone()].concat(),
        (None, None) => [entrypoint, cmd].concat(),
    };
    (!args.is_empty()).then_some(args)
}

fn mapping(port: &HostPort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let host = port.host_ip.map(|ip| format!("{ip}:")).unwrap_or_default();
    format!("{host}{} of the host -> {}/{protocol}", port.host_port, port.container_port)
}
