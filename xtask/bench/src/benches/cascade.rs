//! One service fails under twice the load it can bear: how the others fare, and how it comes back.

use anyhow::Result;
use purlin_bench::cascade::{Run, Trouble, hung, metastable};
use purlin_bench::{Bench, Session};

pub(crate) const BENCH: Bench =
    Bench { name: "cascade", about: "a service that is slow, stopped, killed under twice the load", run };

fn run(session: &mut Session) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let unit = session.duration();
    let wanted: Vec<Trouble> = Trouble::ALL.into_iter().filter(|it| session.wants(it.name())).collect();
    let hung_too = session.wants("hung");
    if !wanted.is_empty() || hung_too {
        let figures = runtime.block_on(async {
            let mut run = Run::start().await?;
            eprintln!("measuring how it is while nothing is wrong");
            let (quiet, mut figures) = run.quiet(unit).await;
            for trouble in wanted {
                eprintln!("measuring {}", trouble.name());
                figures.extend(run.trouble(trouble, quiet, unit).await?);
            }
            drop(run);
            if hung_too {
                eprintln!("measuring hung");
                figures.extend(hung(quiet, unit).await?);
            }
            anyhow::Ok(figures)
        })?;
        session.keep(figures);
    }
    if session.wants("metastable") {
        eprintln!("measuring metastable");
        session.keep(runtime.block_on(metastable(unit))?);
    }
    Ok(())
}
