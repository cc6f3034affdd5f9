//! The sagas of these tests.

use std::time::Duration;

use purlin::message::FaultKind;
use purlin::resilience::Retry;
use purlin::saga::{Function, Saga, SagaError, Sagas};
use purlin::store::Store;

use super::world::World;

pub(super) const FEW: Retry = Retry {
    max_attempts: 3,
    first_delay: Duration::from_millis(10),
    max_delay: Duration::from_secs(1),
    jitter: 0.0,
};

/// Three steps, one after another.
pub(super) async fn abc(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let mut sum = 0;
    for step in ["a", "b", "c"] {
        sum += saga
            .step(step, async |at| at.act(at.key()).await)
            .compensate(async |at, output| at.undo(at.key(), output).await)
            .await?;
    }
    Ok(sum)
}

/// As [`abc`], with few attempts at everything.
pub(super) async fn impatient(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let mut sum = 0;
    for step in ["a", "b", "c"] {
        sum += saga
            .step(step, async |at| at.act(at.key()).await)
            .compensate(async |at, output| at.undo(at.key(), output).await)
            .retry(FEW)
            .compensation_retry(FEW)
            .timeout(Duration::from_secs(1))
            .await?;
    }
    Ok(sum)
}

/// `a`, then `left` and `right` together, then `z`.
pub(super) async fn fork(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let step = |name: &'static str| {
        saga.step(name, async |at| at.act(at.key()).await)
            .compensate(async |at, output| at.undo(at.key(), output).await)
    };
    let first = step("a").await?;
    let (left, right) = tokio::try_join!(step("left"), step("right"))?;
    Ok(first + left + right + step("z").await?)
}

/// `a`, and if that fails for good, `b` in its place.
pub(super) async fn either(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let step = |name: &'static str| {
        saga.step(name, async |at| at.act(at.key()).await)
            .compensate(async |at, output| at.undo(at.key(), output).await)
    };
    match step("a").await {
        Ok(output) => Ok(output),
        Err(error) if error.cause().is_some_and(|cause| cause.kind == FaultKind::Conflict) => step("b").await,
        Err(error) => Err(error),
    }
}

/// All of them, on a store.
pub(super) fn on(store: &Store, world: &World, clock: &purlin::message::Clock) -> Sagas<World> {
    Sagas::new(store, world.clone(), clock.clone())
        .register("abc", abc)
        .register("impatient", impatient)
        .register("fork", fork)
        .register("either", either)
        .register("hasty", Function::new(abc).deadline(Duration::from_secs(60)))
}
