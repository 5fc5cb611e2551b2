//! The OCI image configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ImageConfig;
use super::digest::Digest;

/// What an image configuration says, as far as minipod cares.
///
/// Tolerant: Docker writes `null` for what is not set, and images in use lack fields the specification requires.
///
/// Spec: image-spec `config.md`.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
    config: Option<Execution>,
    pub(super) rootfs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

impl Configuration {
    /// Digests of the uncompressed layers, bottom first.
    pub(super) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.as_deref()).unwrap_or_default()
    }

    pub(super) fn into_image_config(self) -> ImageConfig {
        let run = self.config.unwrap_or_default();
        ImageConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            labels: run.labels.unwrap_or_default(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_fields_are_unset() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=b"],"Entrypoint":null,
            "Volumes":{"/data":{}},"Labels":null,"StopSignal":"","ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let parsed: Configuration = serde_json::from_str(text).unwrap();
        assert!(parsed.diff_ids().is_empty());
        let config = parsed.into_image_config();
        assert_eq!((config.env, config.volumes), (vec!["A=b".to_owned()], vec!["/data".to_owned()]));
        assert_eq!((config.cmd.len(), config.stop_signal), (0, None));
        let bare: Configuration = serde_json::from_str("{}").unwrap();
        assert_eq!(bare.into_image_config(), ImageConfig::default());
    }
}
