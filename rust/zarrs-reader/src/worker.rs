//! A reader as a long-lived process: JSON lines on stdin and stdout, one answer per line asked (docs/workload.md).

use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::clocks;
use crate::engines::{Kind, Settings, versions};
use crate::failure::{Failure, Outcome};
use crate::plan::Limits;
use crate::session::Session;
use crate::workload::Workload;

/// Environment variable with the conductor's process id: a worker without that parent leaves.
const PARENT: &str = "ZCB_CONDUCTOR_PID";

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Open {
        workload: Value,
        #[serde(default)]
        settings: Settings,
    },
    Sample {
        #[serde(default)]
        variant: String,
        #[serde(default)]
        discard: bool,
    },
    Timeline {
        #[serde(default)]
        variant: String,
        #[serde(default)]
        discard: bool,
    },
    Close,
}

/// Answers requests until stdin closes.
///
/// # Errors
/// `Measurement` when stdin or stdout break.
pub fn serve(kind: Kind, limits: Limits, runtime: &Runtime) -> Outcome<()> {
    let parent = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    if !clocks::die_with_parent(parent) {
        return Ok(());
    }
    let mut session = None;
    let mut stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failure::measurement)?;
        let answer =
            runtime.block_on(answer(&line, kind, limits, &mut session)).unwrap_or_else(|failure| complaint(&failure));
        writeln!(stdout, "{answer}").and_then(|()| stdout.flush()).map_err(Failure::measurement)?;
    }
    Ok(())
}

async fn answer(line: &str, kind: Kind, limits: Limits, session: &mut Option<Session>) -> Outcome<Value> {
    let request = serde_json::from_str(line).map_err(|e| Failure::bad_use(format!("not a request: {e}")))?;
    match request {
        Request::Open { workload, settings } => {
            *session = None;
            let opened = Session::open(kind, Workload::from_value(workload)?, limits, settings).await?;
            let answer = json!({"versions": versions(kind), "variants": opened.variants()});
            *session = Some(opened);
            Ok(answer)
        }
        Request::Sample { variant, discard } => {
            let opened = session.as_ref().ok_or_else(|| Failure::measurement("sample before open"))?;
            if discard {
                opened.warm_up(&variant).await?;
                return Ok(json!({"discarded": true}));
            }
            let (timed, _) = opened.sample(&variant).await?;
            Ok(json!({"timed": timed}))
        }
        Request::Timeline { variant, discard } => {
            let opened = session.as_ref().ok_or_else(|| Failure::measurement("timeline before open"))?;
            if discard {
                opened.warm_up_timeline(&variant).await?;
                return Ok(json!({"discarded": true}));
            }
            opened.timeline(&variant).await
        }
        Request::Close => {
            *session = None;
            Ok(json!({"closed": true}))
        }
    }
}

fn complaint(failure: &Failure) -> Value {
    match failure {
        Failure::Unsupported(reason) => json!({"na": reason}),
        other => json!({"error": other.to_string()}),
    }
}
