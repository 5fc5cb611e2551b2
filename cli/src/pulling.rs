//! Pulls images side by side, and shows how they come in.

use std::sync::Arc;
use std::thread;

use bundles::cancel::Cancel;
use bundles::image::{ImageError, ImageStore, Platform, Pulled, Reference, Watch};
use bundles::registry::{Client, DockerConfig, Notice};

use crate::args::LogFormat;
use crate::error::Error;
use crate::meter::{Meter, Shown};
use crate::output;
use crate::registries::RegistryOptions;
use crate::signals::interruptible;

/// An image to be pulled.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) reference: Reference,
    /// What may prove to its registry who asks, before the user's own credentials.
    pub(crate) secrets: Vec<DockerConfig>,
}

/// Pulls all of them; how each went. A signal ends it, and no image comes in by half.
pub(crate) fn pull(
    store: &ImageStore,
    options: &RegistryOptions,
    format: LogFormat,
    shown: Shown,
    platform: &Platform,
    wanted: &[Wanted],
) -> Result<Vec<Result<Pulled, ImageError>>, Error> {
    let (cancel, meter) = (Cancel::new(), Arc::new(Meter::new(shown)));
    let above = Arc::clone(&meter);
    let client = options.client(&cancel, format, Arc::new(move |notice| above.note(&told(notice))))?;
    interruptible(&cancel, || {
        let results = thread::scope(|scope| {
            let (client, meter, cancel) = (&client, &meter, &cancel);
            let threads: Vec<_> = wanted.iter().map(|image| scope.spawn(move || one(store, client, meter, cancel, platform, image))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        if cancel.is_cancelled() { Err(ImageError::Cancelled.into()) } else { Ok(results) }
    })
}

fn one(store: &ImageStore, client: &Client, meter: &Meter, cancel: &Cancel, platform: &Platform, image: &Wanted) -> Result<Pulled, ImageError> {
    let name = image.reference.to_string();
    if meter.tells_lines() {
        output::note(&format!("pulling {name}"));
    }
    let bar = meter.bar(&name);
    let repository = client.repository(&image.reference, &image.secrets).map_err(|e| ImageError::Registry(Box::new(e)))?;
    store.pull(&repository, &image.reference, platform, Watch { progress: &|progress| bar.show(&progress), cancel })
}

/// A notice as people read it.
pub(crate) fn told(notice: &Notice) -> String {
    match notice {
        Notice::Retry { what, why, after } => format!("{what}: {why}; trying again in {:.1} s", after.as_secs_f64()),
        Notice::Mirror { what, failed, why } => format!("{what}: mirror {failed} failed ({why}); going on with the next"),
    }
}
