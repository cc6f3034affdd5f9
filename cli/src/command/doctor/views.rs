//! The read models: whether they run, and show what was committed.

use serde_json::Value;

use super::finding::Finding;
use super::services::{FAR, MOST, silent};
use crate::arguments::Paging;
use crate::command::list;
use crate::operator::Operator;

/// A view of a running process that lacks an event for so many seconds is slow, or does not run.
const LONG: f64 = 60.0;

pub(super) async fn examine(operator: &Operator, service: &str, found: &mut Vec<Finding>) {
    let page = Paging { service: Some(service.to_owned()), limit: MOST };
    match list(operator, "projections", &[], &page, None).await {
        // Who does not run cannot have folded what was committed last.
        Ok((views, _)) => views.iter().for_each(|view| look(service, view, !operator.alone(), found)),
        Err(failure) => found.push(silent(&format!("{service}: projections"), &failure)),
    }
}

fn look(service: &str, view: &Value, runs: bool, found: &mut Vec<Finding>) {
    let name = view["name"].as_str().unwrap_or("?");
    let about = format!("{service}: projection {name}");
    let do_it = |verb: &str| format!("purlin projections {verb} {name} --service {service}");
    let before = found.len();
    let mut warn = |said: String, advice: String| found.push(Finding::warn(&about, said, advice));
    let stopped = &view["stopped"];
    if !stopped.is_null() {
        let text = |member: &str| stopped[member].as_str().unwrap_or("?");
        let (position, stream, reason) = (&stopped["position"], text("stream"), text("reason"));
        let said = format!("it stands before the event at {position}, of `{stream}`: {reason}");
        warn(said, format!("correct the program; or leave parked events out: {}", do_it("parked")));
    }
    if view["state"] == "paused" {
        warn("it is paused".into(), do_it("resume"));
    }
    let number = |member: &str| view[member].as_u64().unwrap_or_default();
    if number("parked") > 0 {
        let said = format!("{} events are parked: {} keys are stale", view["parked"], view["stale_keys"]);
        warn(said, do_it("parked"));
    }
    let (lag, seconds) = (number("lag"), view["lag_seconds"].as_f64().unwrap_or_default());
    if lag > FAR || runs && lag > 0 && seconds > LONG {
        let said = format!("it is {lag} positions behind, by {seconds:.0} s{}", rebuilt(view));
        warn(said, "see whether it runs, and what its process logs".into());
    }
    if found.len() == before {
        let (state, position) = (view["state"].as_str().unwrap_or("?"), &view["position"]);
        found.push(Finding::ok(about, format!("{state}, at {position}, {lag} behind{}", rebuilt(view))));
    }
}

/// How far a rebuild is, if there is one.
fn rebuilt(view: &Value) -> String {
    let progress = view["rebuild"]["progress"].as_f64();
    progress.map_or_else(String::new, |share| format!("; {:.0} % of it are built anew", share * 100.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    fn warned(changes: &Value, runs: bool) -> Vec<String> {
        let mut view = json!({"name": "v", "state": "live", "position": 9, "lag": 0, "lag_seconds": 0.0,
            "parked": 0, "stale_keys": 0, "rebuild": null, "stopped": null});
        let members = view.as_object_mut().expect("an object");
        members.extend(changes.as_object().expect("an object").clone());
        let mut found = Vec::new();
        look("s", &view, runs, &mut found);
        found.into_iter().filter(|finding| finding.level == Level::Warn).map(|finding| finding.said).collect()
    }

    #[test]
    fn a_view_of_a_running_process_may_lag_for_a_moment_and_one_of_a_stopped_process_for_long() {
        assert_eq!(warned(&json!({}), true), [""; 0]);
        assert_eq!(warned(&json!({"lag": 3, "lag_seconds": 1.0}), true), [""; 0]);
        assert_eq!(
            warned(&json!({"lag": 3, "lag_seconds": 61.0}), true),
            ["it is 3 positions behind, by 61 s"]
        );
        assert_eq!(warned(&json!({"lag": 3, "lag_seconds": 61.0}), false), [""; 0]);
        assert_eq!(warned(&json!({"lag": 10_001, "lag_seconds": 1.0}), false).len(), 1);
    }

    #[test]
    fn a_view_that_stands_still_says_before_what() {
        let misfit = json!({"position": 10, "stream": "order-a", "reason": "no colour"});
        let said =
            warned(&json!({"state": "stopped", "stopped": misfit, "parked": 2, "stale_keys": 1}), true);
        let stands = "it stands before the event at 10, of `order-a`: no colour";
        assert_eq!(said, [stands, "2 events are parked: 1 keys are stale"]);
        assert_eq!(warned(&json!({"state": "paused"}), false), ["it is paused"]);
    }
}
