//! A network's plugins, one after the other: the verbs of the specification, section 3.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::capture::excerpt;
use crate::error::Error;
use crate::network::{Network, Plugin};
use crate::plugin::{Launcher, PluginError};
use crate::pod::Pod;
use crate::request::{self, Verb};
use crate::result::{self, Success};

/// A network and what is needed to run its plugins.
pub(crate) struct Chain<'a> {
    pub(crate) launcher: &'a Launcher,
    pub(crate) network: &'a Network,
    /// Longest time one plugin may run.
    pub(crate) limit: Duration,
}

impl Chain<'_> {
    /// Attaches a pod: in order, each plugin given the answer of the one before it. Returns the
    /// last answer, typed and as it is kept for later verbs.
    pub(crate) async fn add(&self, pod: &Pod) -> Result<(Success, Value), Error> {
        let environment = request::pod_environment(Verb::Add, pod, Some(&pod.netns));
        let mut last: Option<(Success, Value)> = None;
        for plugin in &self.network.plugins {
            let previous = last.as_ref().map(|(_, document)| document);
            let request = request::pod_request(plugin, pod, previous)?;
            let answer = self.run(plugin, Verb::Add, &environment, &request).await?;
            let parsed = result::parse(&answer, self.network.version).map_err(|error| {
                let (reason, output) = (error.to_string(), excerpt(&answer));
                self.error(plugin, Verb::Add, PluginError::Garbage { reason, output })
            })?;
            last = Some(parsed);
        }
        last.ok_or_else(|| Error::NotReady(format!("network {} has no plugins", self.network.name)))
    }

    /// Detaches a pod: in reverse order, each plugin given the result of the attachment.
    pub(crate) async fn del(
        &self,
        pod: &Pod,
        netns: Option<&Path>,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        let environment = request::pod_environment(Verb::Del, pod, netns);
        let previous = result.filter(|_| self.network.version.has_check());
        for plugin in self.network.plugins.iter().rev() {
            let request = request::pod_request(plugin, pod, previous)?;
            self.run(plugin, Verb::Del, &environment, &request).await?;
        }
        Ok(())
    }

    /// Asks whether a pod is attached as `result` says. Networks before 0.4.0, and those that
    /// opted out, cannot be asked and are believed.
    pub(crate) async fn check(&self, pod: &Pod, result: &Value) -> Result<(), Error> {
        if self.network.disable_check || !self.network.version.has_check() {
            return Ok(());
        }
        let environment = request::pod_environment(Verb::Check, pod, Some(&pod.netns));
        for plugin in &self.network.plugins {
            let request = request::pod_request(plugin, pod, Some(result))?;
            self.run(plugin, Verb::Check, &environment, &request)
                .await?;
        }
        Ok(())
    }

    /// Asks whether pods could be attached. Networks before 1.1.0 cannot be asked.
    pub(crate) async fn status(&self) -> Result<(), Error> {
        if !self.network.version.has_status_and_gc() {
            return Ok(());
        }
        let environment = request::network_environment(Verb::Status);
        for plugin in &self.network.plugins {
            let request = request::status_request(plugin);
            self.run(plugin, Verb::Status, &environment, &request)
                .await?;
        }
        Ok(())
    }

    /// Tells plugins to forget every pod but `valid`; one plugin's failure does not keep the
    /// others from it.
    pub(crate) async fn gc(&self, valid: &BTreeSet<String>) -> Vec<Error> {
        let mut errors = Vec::new();
        if self.network.disable_gc || !self.network.version.has_status_and_gc() {
            return errors;
        }
        let environment = request::network_environment(Verb::Gc);
        for plugin in &self.network.plugins {
            let request = request::gc_request(plugin, valid.iter());
            errors.extend(
                self.run(plugin, Verb::Gc, &environment, &request)
                    .await
                    .err(),
            );
        }
        errors
    }

    async fn run(
        &self,
        plugin: &Plugin,
        verb: Verb,
        environment: &[(&'static str, OsString)],
        request: &str,
    ) -> Result<Vec<u8>, Error> {
        let answer = self
            .launcher
            .run(&plugin.kind, environment, request, self.limit)
            .await;
        answer.map_err(|source| self.error(plugin, verb, source))
    }

    fn error(&self, plugin: &Plugin, verb: Verb, source: PluginError) -> Error {
        let (network, plugin) = (self.network.name.clone(), plugin.kind.clone());
        Error::Plugin {
            network,
            plugin,
            verb,
            source,
        }
    }
}
