//! `explain`: why a Pod pulls its images, or does not.

mod all;
mod installed;
mod json;
mod look;
mod subject;
mod text;
mod trial;

use crate::cluster::client;
use crate::cluster::registry::Registries;
use crate::commands::cli::{ExplainArgs, ExplainOutput};
use crate::model::explain::{Explanation, Facts, Outcome, explain as weigh};
use anyhow::{Context as _, Result, bail};
use look::Looker;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use subject::Subject;
use trial::Trial;

/// Prints the explanation. The exit code is 0 where every image is pulled, 1 where one is not, and 2 where that cannot be
/// told.
///
/// # Errors
/// There is nothing that could be explained.
pub(crate) async fn explain(args: ExplainArgs) -> Result<ExitCode> {
    let config = client::config(args.connection.kubeconfig.as_deref(), args.connection.context.as_deref()).await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let registries = args.try_registry.then(|| Registries::new(args.registry_ca.as_deref())).transpose()?;
    let mut trial = registries.map(Trial::new);
    let mut looker = Looker::new(client::client(config)?, args.settings.source()).await?;
    if args.all {
        return all::explain_all(&mut looker, trial, &args).await;
    }
    let subjects = match (&args.target, &args.image, &args.filename) {
        (Some(target), _, _) => {
            let (kind, name) = subject::named(target)?;
            vec![looker.subject(kind, name, &namespace).await?]
        }
        (_, Some(image), _) => vec![Subject::of_image(image, &namespace, args.service_account.as_deref())],
        (_, _, Some(file)) => of_file(file, &namespace)?,
        (None, None, None) => bail!("name what to explain: pod/NAME, --image IMAGE, --filename FILE or --all"),
    };
    let mut outcomes = Vec::new();
    let mut documents = Vec::new();
    for subject in &subjects {
        let (facts, explanation) = look_at(&mut looker, trial.as_mut(), subject).await;
        outcomes.push(explanation.outcome());
        match args.output {
            ExplainOutput::Text => print(&text::page(subject, &facts, &explanation))?,
            ExplainOutput::Json => documents.push(json::document(subject, &facts, &explanation)),
        }
    }
    if args.output == ExplainOutput::Json {
        // One document for one object, a list for the objects of a file.
        let document = match documents.len() {
            1 if args.filename.is_none() => documents.remove(0),
            _ => Value::Array(documents),
        };
        print(&format!("{document:#}\n"))?;
    }
    Ok(exit_code(outcomes.into_iter().max().unwrap_or(Outcome::CannotTell)))
}

/// What is known of a Pod, and what follows; with the answers of the registries, where they are to be asked.
async fn look_at(looker: &mut Looker, trial: Option<&mut Trial>, subject: &Subject) -> (Facts, Explanation) {
    let facts = looker.facts(subject).await;
    let mut explanation = weigh(&facts);
    if let Some(trial) = trial {
        trial.ask(&facts, &mut explanation).await;
    }
    (facts, explanation)
}

/// The Pods of a manifest, of whatever makes Pods; `-` is standard input.
fn of_file(file: &Path, namespace: &str) -> Result<Vec<Subject>> {
    let content = if file == Path::new("-") {
        let mut content = String::new();
        io::stdin().read_to_string(&mut content).map(|_| content)
    } else {
        std::fs::read_to_string(file)
    };
    let content = content.with_context(|| format!("cannot read {}", file.display()))?;
    of_manifest(&content, namespace).with_context(|| format!("in {}", file.display()))
}

fn of_manifest(content: &str, namespace: &str) -> Result<Vec<Subject>> {
    let documents = serde_saphyr::from_multiple::<Value>(content).context("it is neither YAML nor JSON")?;
    let mut subjects = Vec::new();
    for document in &documents {
        let items = document["items"].as_array();
        for object in items.map_or(std::slice::from_ref(document), Vec::as_slice) {
            subjects.extend(Subject::of_object(object, namespace)?);
        }
    }
    if subjects.is_empty() {
        bail!("nothing there makes Pods");
    }
    Ok(subjects)
}

fn exit_code(outcome: Outcome) -> ExitCode {
    ExitCode::from(match outcome {
        Outcome::Pulls => 0,
        Outcome::DoesNotPull => 1,
        Outcome::CannotTell => 2,
    })
}

/// Prints what is coloured, without its colours where nobody looks. Whoever stops reading is no error.
fn print(page: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(page.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print"),
    }
}

/// Tells somebody who waits how far it is, in a line that the next one overwrites.
fn show_progress(line: &str) {
    let mut err = anstream::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const POD: &str = "{kind: Pod, metadata: {name: web}, spec: {containers: [{name: app, image: a}]}}";

    #[rstest]
    #[case::one(POD.to_owned(), &["pod/web"])]
    #[case::several_with_others(
        format!("{POD}\n---\nkind: Service\n---\nkind: Job\nmetadata: {{name: once}}\nspec: {{template: {{spec: {{containers: []}}}}}}"),
        &["pod/web", "job/once"])]
    #[case::a_list(format!("kind: List\nitems: [{POD}, {POD}]"), &["pod/web", "pod/web"])]
    fn a_manifest_is_explained_as_its_pods(#[case] content: String, #[case] expected: &[&str]) {
        let subjects = of_manifest(&content, "shop").unwrap();
        assert_eq!(subjects.iter().map(|subject| &*subject.title).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_manifest_without_pods_is_told() {
        assert_eq!(of_manifest("kind: Service", "shop").unwrap_err().to_string(), "nothing there makes Pods");
    }
}
