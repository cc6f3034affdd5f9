//! The figures that come of a run, each with its goal.

use std::time::Duration;

use anyhow::Result;

use super::child::Child;
use super::load::Load;
use super::plan::{self, BULKHEAD, CAPACITY, OTHER_RATE, PATIENCE, SLOW_CAPACITY};
use super::record::{Record, Span, recovery};
use super::role::Care;
use super::sights::{growth, most, most_growth};
use super::trouble::{Course, Trouble};
use super::world::World;
use crate::{Goal, Measured, Reading, Unit};

const BENCH: &str = "cascade";
const MS: Unit = Unit::Cost("ms");
const SECONDS: Unit = Unit::Cost("s");
const ANSWERS: Unit = Unit::PerSecond("answers");

/// How all fare while nothing is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    own_p99: f64,
    other_p99: f64,
    capacity: f64,
}

/// A run's processes, in front of which clients stand.
pub struct Run(World);

impl Run {
    /// Starts all of them.
    pub async fn start() -> Result<Self> {
        Ok(Self(World::start(Care::Careful, Care::Careful, PATIENCE).await?))
    }

    /// How all fare while the callee is asked for half of what it can do, and how much it can do through the gateway.
    pub async fn quiet(&self, unit: Duration) -> (Quiet, Vec<Measured>) {
        let world = &self.0;
        world.ask(CAPACITY / 2.0, unit).await;
        let span = world.ask(CAPACITY / 2.0, 8 * unit).await;
        world.needs.rate(0.0);
        tokio::time::sleep(PATIENCE).await;
        let capacity = world.needs.saturate(BULKHEAD.max_under_way, 3 * unit).await;
        let p99 = |load: &Load| load.record().quantile(0.99, span);
        let quiet = Quiet { own_p99: p99(&world.own), other_p99: p99(&world.other), capacity };
        let figures = vec![
            alone("quiet needs p99", MS, p99(&world.needs)),
            alone("quiet own p99", MS, quiet.own_p99),
            alone("quiet other p99", MS, quiet.other_p99),
            alone("capacity", ANSWERS, Reading::from(capacity).with("by construction", CAPACITY)),
        ];
        (quiet, figures)
    }

    /// Lets something befall the callee: how all others fare, and how long it takes afterwards.
    pub async fn trouble(&mut self, trouble: Trouble, quiet: Quiet, unit: Duration) -> Result<Vec<Measured>> {
        let course = trouble.befall(&mut self.0, unit).await?;
        let name = |what: &str| format!("{} {what}", trouble.name());
        let mut figures = others(&self.0, &course, quiet, &name);
        if trouble == Trouble::Napped {
            let opened = growth(&self.0.middle.sights(), "opened", course.whole());
            figures
                .push(alone(name("breaker opened"), Unit::Cost("times"), opened).should(Goal::AtMost(0.0)));
        }
        figures.extend(self.needing(trouble, &course, quiet, &name));
        figures.extend(self.queues(&course, &name));
        figures.extend(self.calls(&course, &name));
        if trouble == Trouble::Napped {
            // Nobody is served by one who is held; and what the gateway holds for him meanwhile, `hung` measures.
            figures.retain(|figure| !figure.case.contains(" own ") && !figure.case.contains(" memory "));
        }
        Ok(figures)
    }

    /// The route that needs the callee.
    fn needing(
        &self,
        trouble: Trouble,
        course: &Course,
        quiet: Quiet,
        name: &impl Fn(&str) -> String,
    ) -> Vec<Measured> {
        let record = self.0.needs.record();
        let goodput = record.goodput(course.during);
        let seconds = course.during.seconds();
        let reading = Reading::from(goodput)
            .with("good p99 ms", record.good_quantile(0.99, course.during))
            .with("refused/s", record.count(503, course.during) as f64 / seconds)
            .with("timed out/s", record.count(504, course.during) as f64 / seconds)
            .with("unanswered/s", record.count(0, course.during) as f64 / seconds)
            .with("refusal p50 ms", record.refusal_quantile(0.5, course.during))
            .with("refusal p99 ms", record.refusal_quantile(0.99, course.during));
        let figure = alone(name("needs goodput"), ANSWERS, reading);
        let mut figures = vec![match trouble {
            // Calls that fail cost the callee nothing, and are made again.
            Trouble::Crowded | Trouble::Flaky => figure.should(Goal::AtLeast(0.9 * quiet.capacity)),
            Trouble::Slow => figure.should(Goal::AtLeast(0.9 * SLOW_CAPACITY)),
            Trouble::Stopped | Trouble::Killed | Trouble::Napped => figure,
        }];
        if trouble != Trouble::Crowded {
            figures.push(back(course, &record, name));
        }
        figures
    }

    /// Whatever could grow.
    fn queues(&self, course: &Course, name: &impl Fn(&str) -> String) -> Vec<Measured> {
        let world = &self.0;
        let (whole, callee) = (course.whole(), world.callee_sights());
        let (gateway, middle) = (world.gateway.sights(), world.middle.sights());
        // Whoever is not answered hangs up after his patience: more cannot be open at once.
        let clients = CAPACITY * 2.0 * PATIENCE.as_secs_f64() + 2.0 * OTHER_RATE * PATIENCE.as_secs_f64();
        let most_at_callee = BULKHEAD.max_under_way as f64;
        let grown = |child: &Child| {
            let sights = child.sights();
            most(&sights, "rss_mib", whole) - most(&sights, "rss_mib", course.before)
        };
        let memory = Reading::from(grown(&world.gateway).max(grown(&world.middle)))
            .with("gateway MiB", most(&gateway, "rss_mib", whole))
            .with("middle MiB", most(&middle, "rss_mib", whole))
            .with("callee MiB", most(&callee, "rss_mib", whole));
        let waiting = Reading::from(most(&middle, "waiting", whole))
            .with("places taken", most(&middle, "places_taken", whole))
            .with("requests in the middle", most(&middle, "under_way", whole));
        let connections = Reading::from(most(&gateway, "connections", whole))
            .with("gateway descriptors", most(&gateway, "descriptors", whole))
            .with("middle descriptors", most(&middle, "descriptors", whole))
            .with("callee descriptors", most(&callee, "descriptors", whole));
        vec![
            // Those that pause before they are tried again have no place, and are not counted as waiting for one.
            alone(name("waiting for a place"), Unit::Cost("requests"), waiting)
                .should(Goal::AtMost(BULKHEAD.max_waiting as f64)),
            alone(name("at the callee"), Unit::Cost("requests"), most(&callee, "under_way", whole))
                .should(Goal::AtMost(most_at_callee)),
            alone(name("connections"), Unit::Cost("connections"), connections).should(Goal::AtMost(clients)),
            alone(name("memory grown"), Unit::Cost("MiB"), memory).should(Goal::AtMost(16.0)),
        ]
    }

    /// What the callee is asked.
    fn calls(&self, course: &Course, name: &impl Fn(&str) -> String) -> Vec<Measured> {
        let (middle, callee) = (self.0.middle.sights(), self.0.callee_sights());
        let (whole, budget) = (course.whole(), plan::policy().budget);
        let (calls, attempts) = (growth(&middle, "calls", whole), growth(&middle, "attempts", whole));
        let reserve = (budget.saved + budget.per_second * whole.seconds()) / calls;
        let a_call = Reading::from(attempts / calls)
            .with("calls", calls)
            .with("attempts", attempts)
            .with("breaker opened", growth(&middle, "opened", whole));
        let second = Duration::from_secs(1);
        let after = most_growth(&callee, "received", second, course.after) / CAPACITY;
        vec![
            alone(name("attempts a call"), Unit::Cost("attempts"), a_call)
                .should(Goal::AtMost(1.0 + budget.ratio + reserve)),
            alone(name("herd"), Unit::Cost("times capacity"), after).should(Goal::AtMost(1.5)),
        ]
    }
}

/// The route that needs the callee hangs in its own service, and its clients do not hang up: how all other routes fare,
/// and (the peer) how they fare if the gateway lets a service have as many requests in hand as come.
pub async fn hung(quiet: Quiet, unit: Duration) -> Result<Vec<Measured>> {
    let ours = hang(Care::Careful, quiet, unit).await?;
    let peers = hang(Care::Careless, quiet, unit).await?;
    Ok(ours.into_iter().zip(peers).map(|(ours, peer)| Measured { peer: Some(peer.ours), ..ours }).collect())
}

async fn hang(gateway: Care, quiet: Quiet, unit: Duration) -> Result<Vec<Measured>> {
    let mut world = World::start(Care::Careful, gateway, plan::PATIENT).await?;
    world.ask(CAPACITY / 2.0, unit).await;
    let before = world.ask(CAPACITY * 2.0, 2 * unit).await;
    world.middle.tell("hang").await?;
    let during = world.ask(CAPACITY * 2.0, 8 * unit).await;
    world.middle.tell("go on").await?;
    let after = world.ask(CAPACITY * 2.0, 6 * unit).await;
    tokio::time::sleep(PATIENCE).await;
    let course = Course { before, during, after };
    let name = |what: &str| format!("hung {what}");
    let mut figures = others(&world, &course, quiet, &name);
    let (needs, sights) = (world.needs.record(), world.gateway.sights());
    figures.push(back(&course, &needs, &name));
    let connections = Reading::from(most(&sights, "connections", course.whole()))
        .with("gateway descriptors", most(&sights, "descriptors", course.whole()))
        .with("gateway MiB", most(&sights, "rss_mib", course.whole()));
    // A service's places, and those of clients that are answered.
    let goal = Goal::AtMost(1_000.0 + 2.0 * OTHER_RATE * PATIENCE.as_secs_f64());
    figures.push(alone(name("connections"), Unit::Cost("connections"), connections).should(goal));
    Ok(figures)
}

/// How long it takes until the route that needs the callee is served as before.
fn back(course: &Course, needs: &Record, name: &impl Fn(&str) -> String) -> Measured {
    let before = needs.goodput(course.before);
    let well = |span| needs.goodput(span) >= 0.9 * before;
    let took = recovery(course.after.from, course.after.to, well).unwrap_or(f64::INFINITY);
    let took = Reading::from(took).with("goodput before", before);
    alone(name("recovery"), SECONDS, took).should(Goal::AtMost(5.0))
}

/// Routes that do not need the callee.
fn others(world: &World, course: &Course, quiet: Quiet, name: &impl Fn(&str) -> String) -> Vec<Measured> {
    let sides = [("own", &world.own, quiet.own_p99), ("other", &world.other, quiet.other_p99)];
    let figures = sides.into_iter().flat_map(|(side, load, quiet_p99)| {
        let record = load.record();
        let p99 = record.quantile(0.99, course.during);
        let served = record.part_served(course.during);
        let p99 = Reading::from(p99 / quiet_p99).with("p99 ms", p99).with("quiet p99 ms", quiet_p99);
        [
            alone(name(&format!("{side} p99 over quiet")), Unit::Cost("times"), p99)
                .should(Goal::AtMost(1.5)),
            alone(name(&format!("{side} served")), ANSWERS, served * OTHER_RATE)
                .should(Goal::AtLeast(0.9 * OTHER_RATE)),
        ]
    });
    figures.collect()
}

/// Ten seconds of three times what the callee can do, by clients who ask again at once whatever was not answered
/// soon; then as much as before. How long it takes until goodput and p99 are as before, with all that protects and
/// (the peer) without.
pub async fn metastable(unit: Duration) -> Result<Vec<Measured>> {
    let ours = overload(Care::Careful, unit).await?;
    let peer = overload(Care::Careless, unit).await?;
    let figure = alone("metastable recovery", SECONDS, ours).should(Goal::AtMost(5.0));
    Ok(vec![Measured { peer: Some(peer), ..figure }])
}

async fn overload(care: Care, unit: Duration) -> Result<Reading> {
    let mut world = World::start(care, Care::Careful, plan::HASTE).await?;
    world.needs.insist(true);
    world.ask(0.7 * CAPACITY, 2 * unit).await;
    let before = world.ask(0.7 * CAPACITY, 3 * unit).await;
    let during = world.ask(3.0 * CAPACITY, 10 * unit).await;
    let after = world.ask(0.7 * CAPACITY, 12 * unit).await;
    world.callee()?;
    tokio::time::sleep(plan::HASTE * 4).await;
    let record = world.needs.record();
    let (goodput, p99) = (record.goodput(before), record.quantile(0.99, before));
    let well = |span: Span| record.goodput(span) >= 0.9 * goodput && record.quantile(0.99, span) <= 1.5 * p99;
    let took = recovery(after.from, after.to, well).unwrap_or(f64::INFINITY);
    let last = Span { from: after.to - 2 * unit, to: after.to };
    Ok(Reading::from(took)
        .with("goodput before", goodput)
        .with("goodput during", record.goodput(during))
        .with("goodput at the end", record.goodput(last))
        .with("p99 ms before", p99)
        .with("p99 ms at the end", record.quantile(0.99, last)))
}

fn alone(case: impl Into<String>, unit: Unit, ours: impl Into<Reading>) -> Measured {
    Measured::alone(BENCH, case, unit, ours)
}
