//! A reader as a long-lived process: JSON lines on stdin and stdout, one answer per line asked (docs/workload.md).

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::clocks;
use crate::engines::{Kind, Settings, versions};
use crate::failure::{Failure, Outcome, panicked};
use crate::feeding::Feeding;
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
    /// Other reads of the array that is open.
    Select {
        workload: Value,
    },
    /// A training workload, whose epochs are asked for one by one.
    Load {
        training: Value,
    },
    Epoch {
        number: usize,
        step_ms: f64,
    },
    Close,
}

/// What a worker has open.
enum Opened {
    Nothing,
    Session(Session),
    Feeding(Feeding),
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
    let mut opened = Opened::Nothing;
    let mut stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failure::measurement)?;
        let asked = AssertUnwindSafe(answer(&line, kind, limits, &mut opened)).catch_unwind();
        let outcome = runtime.block_on(asked).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let answer = outcome.unwrap_or_else(|failure| complaint(&failure));
        writeln!(stdout, "{answer}").and_then(|()| stdout.flush()).map_err(Failure::measurement)?;
    }
    Ok(())
}

async fn answer(line: &str, kind: Kind, limits: Limits, opened: &mut Opened) -> Outcome<Value> {
    let request = serde_json::from_str(line).map_err(|e| Failure::bad_use(format!("not a request: {e}")))?;
    match request {
        Request::Open { workload, settings } => {
            *opened = Opened::Nothing;
            let session = Session::open(kind, Workload::from_value(workload)?, limits, settings).await?;
            let answer = json!({"versions": versions(kind), "variants": session.variants()});
            *opened = Opened::Session(session);
            Ok(answer)
        }
        Request::Sample { variant, discard } => {
            let session = opened.session("sample")?;
            if discard {
                session.warm_up(&variant).await?;
                return Ok(json!({"discarded": true}));
            }
            let (timed, _) = session.sample(&variant).await?;
            Ok(json!({"timed": timed}))
        }
        Request::Timeline { variant, discard } => {
            let session = opened.session("timeline")?;
            if discard {
                session.warm_up_timeline(&variant).await?;
                return Ok(json!({"discarded": true}));
            }
            session.timeline(&variant).await
        }
        Request::Select { workload } => {
            opened.session("select")?.select(Workload::from_value(workload)?).await?;
            Ok(json!({"selected": true}))
        }
        Request::Load { training } => {
            *opened = Opened::Nothing;
            *opened = Opened::Feeding(Feeding::open(kind, training, limits).await?);
            Ok(json!({"versions": versions(kind)}))
        }
        Request::Epoch { number, step_ms } => {
            let Opened::Feeding(feeding) = opened else {
                return Err(Failure::measurement("epoch before load"));
            };
            let pause = Duration::try_from_secs_f64(step_ms / 1e3).map_err(Failure::bad_use)?;
            Ok(json!({"looped": feeding.epoch(number, pause).await?}))
        }
        Request::Close => {
            *opened = Opened::Nothing;
            Ok(json!({"closed": true}))
        }
    }
}

impl Opened {
    fn session(&mut self, asked: &str) -> Outcome<&mut Session> {
        match self {
            Self::Session(session) => Ok(session),
            _ => Err(Failure::measurement(format!("{asked} before open"))),
        }
    }
}

fn complaint(failure: &Failure) -> Value {
    match failure {
        Failure::Unsupported(reason) => json!({"na": reason}),
        other => json!({"error": other.line()}),
    }
}
