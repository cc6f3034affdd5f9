//! A run of the program: what was asked for, and what came out so far.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Figure, Measured, table};

/// A benchmark: a name, what it measures, and the function that does it.
pub struct Bench {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures its figures, each through [`Session::figure`].
    pub run: fn(&mut Session) -> Result<()>,
}

/// What a benchmark needs to know, and where its figures go.
pub struct Session {
    rounds: usize,
    seconds: f64,
    only: Option<String>,
    folder: Scratch,
    figures: Vec<Measured>,
}

impl Session {
    /// Fewer rounds say nothing about a machine that others share.
    pub const LEAST_ROUNDS: usize = 5;

    /// How long one measurement shall take.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// A new empty folder for one measurement, on the disk that is measured.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.0.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Whether `--case` asks for this case; one that is costly to prepare asks before it prepares.
    pub fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only.as_str()))
    }

    /// Measures a figure, if it is asked for, and keeps it for the table.
    pub fn figure(&mut self, case: &str, figure: Figure<'_>) -> Result<()> {
        if self.wants(case) {
            eprintln!("measuring {case} ({} rounds)", self.rounds);
            let measured = figure.measure(self.rounds).with_context(|| format!("measuring {case}"))?;
            self.figures.push(measured);
        }
        Ok(())
    }

    /// Runs what the arguments ask for, and prints the table and the lines of JSON on standard output.
    pub fn main(benches: &[Bench], arguments: impl Iterator<Item = String>) -> Result<()> {
        let Some((bench, mut session)) = parse(benches, arguments)? else {
            println!(
                "Usage: cargo xtask bench <NAME> [--rounds N] [--seconds S] [--case TEXT] [--dir DIR]\n"
            );
            benches.iter().for_each(|bench| println!("  {:<12}{}", bench.name, bench.about));
            return Ok(());
        };
        (bench.run)(&mut session)?;
        if session.figures.is_empty() {
            bail!("no case of `{}` has `{}` in its name", bench.name, session.only.unwrap_or_default());
        }
        print!("{}", table::table(&session.figures));
        session.figures.iter().for_each(|figure| println!("{}", figure.json()));
        Ok(())
    }
}

/// The benchmark and its session; none when only the list is wanted.
fn parse(
    benches: &[Bench],
    mut arguments: impl Iterator<Item = String>,
) -> Result<Option<(&Bench, Session)>> {
    let Some(name) = arguments.next().filter(|name| name != "--help" && name != "-h") else {
        return Ok(None);
    };
    let Some(bench) = benches.iter().find(|bench| bench.name == name) else {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark `{name}`, but: {}", names.join(", "));
    };
    let (mut rounds, mut seconds, mut only, mut folder) = (Session::LEAST_ROUNDS, 1.0, None, "target".into());
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{option}` needs a value"))?;
        match option.as_str() {
            "--rounds" => rounds = value.parse().context("`--rounds` takes a number")?,
            "--seconds" => seconds = value.parse().context("`--seconds` takes a number")?,
            "--case" => only = Some(value),
            "--dir" => folder = PathBuf::from(value),
            unknown => bail!("there is no option `{unknown}`"),
        }
    }
    if rounds < Session::LEAST_ROUNDS {
        bail!("`--rounds` is at least {}", Session::LEAST_ROUNDS);
    }
    if !(seconds > 0.0 && seconds <= 600.0) {
        bail!("`--seconds` is more than 0 and at most 600");
    }
    Ok(Some((bench, Session { rounds, seconds, only, folder: Scratch::new(&folder)?, figures: Vec::new() })))
}

/// A folder that goes when the session ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self> {
        let folder = parent.join(format!("purlin-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCHES: &[Bench] = &[Bench { name: "known", about: "", run: |_| Ok(()) }];

    fn parsed(arguments: &str) -> Result<Option<(&'static Bench, Session)>> {
        parse(BENCHES, arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_name_there_is_only_the_list() {
        assert!(parsed("").expect("the list").is_none());
        assert!(parsed("--help").expect("the list").is_none());
    }

    #[test]
    fn an_unknown_name_an_unknown_option_and_too_few_rounds_are_refused() {
        for wrong in ["unknown", "known --fast 1", "known --rounds", "known --rounds 4", "known --seconds 0"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_cases_that_were_asked_for_are_measured_and_the_folder_goes_at_the_end() {
        let folder = std::env::temp_dir();
        let arguments = format!("known --case 128 --dir {}", folder.display());
        let (_, mut session) = parsed(&arguments).expect("arguments").expect("a session");
        for case in ["commit 1", "commit 128"] {
            let figure = Figure::new("known", case, crate::Unit::PerSecond("x")).ours(|| Ok(1.0.into()));
            session.figure(case, figure).expect("a figure");
        }
        assert_eq!(
            session.figures.iter().map(|figure| figure.case.as_str()).collect::<Vec<_>>(),
            ["commit 128"]
        );
        let scratch = session.folder("a").expect("a folder");
        assert!(scratch.exists());
        drop(session);
        assert!(!scratch.exists());
    }
}
