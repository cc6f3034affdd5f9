//! A run of the program: what was asked for, and what came out so far.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Comparison, Figure, Measured, table};

/// A benchmark: a name, what it measures, and the function that does it.
pub struct Bench {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures its figures, each through [`Session::figure`].
    pub run: fn(&mut Session) -> Result<()>,
}

const USAGE: &str = "\
Usage: cargo xtask bench <NAME> [OPTION ..]

  --rounds N        rounds in which all take turns, at least 5
  --seconds S       how long one measurement takes, 1 unless said
  --case TEXT       only the cases with this text in their name
  --only TEXT,..    only the cases with one of these texts in their name
  --dir DIR         the folder, and so the disk, that is measured, `target` unless said
";

/// What a benchmark needs to know, and where its figures go.
pub struct Session {
    rounds: usize,
    seconds: f64,
    only: Vec<String>,
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

    /// Whether `--case` or `--only` ask for this case; one that is costly to prepare asks before it prepares.
    pub fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.contains(only.as_str()))
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

    /// Measures what a case is set beside, if it is asked for, and keeps the figures for the table.
    pub fn comparison(&mut self, case: &str, comparison: Comparison<'_>) -> Result<()> {
        if self.wants(case) {
            eprintln!("measuring {case} ({} rounds)", self.rounds);
            let measured = comparison.measure(self.rounds).with_context(|| format!("measuring {case}"))?;
            self.figures.extend(measured);
        }
        Ok(())
    }

    /// Keeps figures for the table that were measured by other means than in rounds.
    pub fn keep(&mut self, figures: impl IntoIterator<Item = Measured>) {
        self.figures.extend(figures);
    }

    /// Runs what the arguments ask for, and prints the table and the lines of JSON on standard output.
    pub fn main(benches: &[Bench], arguments: impl Iterator<Item = String>) -> Result<()> {
        let Some((bench, mut session)) = parse(benches, arguments)? else {
            println!("{USAGE}");
            benches.iter().for_each(|bench| println!("  {:<12}{}", bench.name, bench.about));
            return Ok(());
        };
        (bench.run)(&mut session)?;
        if session.figures.is_empty() {
            bail!("no case of `{}` has `{}` in its name", bench.name, session.only.join("` or `"));
        }
        print!("{}", table::table(&session.figures));
        session.figures.iter().for_each(|figure| println!("{}", figure.json()));
        Ok(())
    }
}

/// The benchmark and its session; none when only the list is wanted.
fn parse(benches: &[Bench], arguments: impl Iterator<Item = String>) -> Result<Option<(&Bench, Session)>> {
    let arguments: Vec<String> = arguments.collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Ok(None);
    }
    let mut arguments = arguments.into_iter();
    let Some(name) = arguments.next() else {
        return Ok(None);
    };
    let Some(bench) = benches.iter().find(|bench| bench.name == name) else {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark `{name}`, but: {}", names.join(", "));
    };
    let (mut rounds, mut seconds, mut only, mut folder) =
        (Session::LEAST_ROUNDS, 1.0, Vec::new(), "target".into());
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{option}` needs a value"))?;
        match option.as_str() {
            "--rounds" => rounds = value.parse().context("`--rounds` takes a number")?,
            "--seconds" => seconds = value.parse().context("`--seconds` takes a number")?,
            "--case" => only.push(value),
            "--only" => only.extend(value.split(',').map(str::to_owned)),
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
        assert!(parsed("known --rounds 9 --help").expect("the list").is_none());
    }

    #[test]
    fn an_unknown_name_an_unknown_option_and_too_few_rounds_are_refused() {
        for wrong in ["unknown", "known --fast 1", "known --rounds", "known --rounds 4", "known --seconds 0"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_text_of_a_list_asks_for_its_cases() {
        let arguments = format!("known --only replay,128 --dir {}", std::env::temp_dir().display());
        let (_, session) = parsed(&arguments).expect("arguments").expect("a session");
        let wanted = ["replay sqlite", "commit 128", "commit 16"].map(|case| session.wants(case));
        assert_eq!(wanted, [true, true, false]);
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
