//! Every role, made from what it stands on and set to work.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use purlin::bus::Bus;
use purlin::message::Uuid;
use purlin::service::operator::Served;
use purlin::service::probes;
use purlin::store::personal::MasterKey;
use purlin::store::{Cause, Store};
use purlin_gateway::auth::{Rules, Verifier};
use purlin_gateway::{Gateway, Means};

use super::addresses::Addresses;
use super::lines::{Lines, Repeats};
use super::process::{Process, Room};
use super::stores::Opened;
use super::{doors, greeting, operator, rates};
use crate::breakers::{Here, Peer, Peers, answering_others};
use crate::config::{Config, Role};
use crate::console::{Console, Watched};
use crate::contracts::clients::{Breakers, Inventory, Keys, Orders, Payments, Products, Shipping, Users};
use crate::contracts::keys::{About, Elsewhere, Of};
use crate::contracts::service::{Base, First, Service};
use crate::payments::card_network::CardNetwork;
use crate::users::FirstAdministrator;
use crate::{assistant, breakers, console, inventory, orders, payments, products, shipping, users};

/// The roles of the process at work.
pub struct Roles {
    firsts: Vec<(&'static str, First)>,
    gateway: Option<Gateway>,
}

/// Sets every role of the process to work.
pub async fn start(
    process: &Process,
    config: &Config,
    roles: &BTreeSet<Role>,
    addresses: &mut Addresses,
    stores: &Opened,
) -> anyhow::Result<Roles> {
    let keys = doors::keys_url(addresses);
    let rules = Rules { issuer: Some("shop".into()), ..Rules::default() };
    let caller = Lines::new(process, addresses).token_keys();
    let verifier =
        Verifier::calling(keys.parse().context("where the keys are")?, rules, process.clock.clone(), caller);
    let fresh = verifier.clone();
    process.run_until_closed("keys of tokens".into(), move || {
        let fresh = fresh.clone();
        async move {
            fresh.keep_fresh().await;
            Ok::<_, std::convert::Infallible>(())
        }
    });
    let kept = Vec::new();
    let mut maker = Maker { process, config, addresses, verifier, bus: None, stores, kept, paid_in: None };
    let mut services = Vec::new();
    for role in roles {
        if let Some(service) = maker.service(*role).await.with_context(|| format!("the {}", role.name()))? {
            services.push((*role, service));
        }
    }
    let Maker { bus, verifier, kept, .. } = maker;
    let here = Here::new(config.role.map_or("shop", Role::name), &process.breakers);
    let (mut watched, mut firsts) = (Vec::new(), Vec::new());
    for (role, service) in services {
        let Service { name, store, router, tasks, first, stuck } = service;
        let watching = probes(&process.health, &process.metrics);
        let watching = watching.merge(answering_others(here.clone(), verifier.clone()));
        process.serve_room(name, addresses.listener(role)?, Room { router, watching, log: Some(&store) });
        if let Some(bus) = bus.as_ref().filter(|_| role.hears_events()) {
            let (bus, source) = (bus.clone(), store.clone());
            process.run_until_closed(format!("{name}/relay"), move || bus.relay(name, &source));
        }
        for task in tasks {
            process.run(name, task);
        }
        firsts.extend(first.map(|first| (name, first)));
        watched.push(Watched { name, store, stuck });
    }
    operator::serve(process, config, kept).await?;
    if roles.contains(&Role::Assistant) {
        let lines = Lines::new(process, addresses);
        let orders = Orders(lines.to(Role::Orders, Repeats::Line)?);
        let router = assistant::router(&config.model, lines.model(), orders, verifier.clone())
            .map_err(|error| anyhow!(error))?;
        let watching = answering_others(here.clone(), verifier.clone());
        let room = Room { router, watching, log: None };
        process.serve_room("assistant", addresses.listener(Role::Assistant)?, room);
    }
    if roles.contains(&Role::Console) {
        let console = Console {
            health: process.health.clone(),
            metrics: process.metrics.clone(),
            breakers: process.breakers.clone(),
            supervisor: process.rooms.clone(),
            services: watched.into(),
        };
        process.serve_door("console", addresses.listener(Role::Console)?, console::router(console));
    }
    let gateway = match roles.contains(&Role::Gateway) {
        true => {
            let gateway = open_gateway(process, config, addresses)?;
            let peers = Peers::new(here, others(process, addresses)?);
            if let Some(listener) = addresses.breakers() {
                process.serve_watched(breakers::POOL, listener, breakers::router(peers, verifier));
            }
            Some(gateway)
        }
        false => None,
    };
    Ok(Roles { firsts, gateway })
}

fn open_gateway(process: &Process, config: &Config, addresses: &mut Addresses) -> anyhow::Result<Gateway> {
    let routes = doors::gateway(config, addresses, process.descriptors);
    let (clock, metrics) = (process.clock.clone(), process.metrics.clone());
    let limits = rates::open(process, &config.rate_limits)?;
    let gateway = Gateway::by(routes, Means { clock, metrics, limits, calls: Some(process.calls.clone()) })?;
    let (serving, listener) = (gateway.clone(), addresses.listener(Role::Gateway)?);
    let closed = process.doors_closed();
    process.door("gateway", async move {
        if !serving.serve(listener, closed.cancelled_owned()).await {
            tracing::warn!("some requests were cut off: they took too long to finish");
        }
    });
    Ok(gateway)
}

/// The other processes, as far as this one is told of them.
fn others(process: &Process, addresses: &Addresses) -> anyhow::Result<Vec<Peer>> {
    let (lines, others) = (Lines::new(process, addresses), addresses.others());
    let several = |role: Role| others.values().filter(|other| **other == role).count() > 1;
    let peer = |(endpoint, role): (&String, &Role)| {
        let breakers = Breakers(lines.breakers(*role, endpoint, several(*role))?);
        Ok(Peer { role: role.name(), endpoint: endpoint.clone(), breakers })
    };
    others.iter().map(peer).collect()
}

/// What services are made from.
struct Maker<'a> {
    process: &'a Process,
    config: &'a Config,
    addresses: &'a Addresses,
    verifier: Verifier,
    bus: Option<Bus>,
    stores: &'a Opened,
    /// What was opened so far, the bus and the card network too: relays and groups keep in one store how far they are in
    /// another.
    kept: Vec<Served>,
    /// Which payments the orders of this process have had so far.
    paid_in: Option<Uuid>,
}

impl Maker<'_> {
    async fn service(&mut self, role: Role) -> anyhow::Result<Option<Service>> {
        let lines = Lines::new(self.process, self.addresses);
        let to = |role| lines.to(role, Repeats::Line);
        let made = match role {
            Role::Users => {
                let (password, file) =
                    (self.config.admin_password.clone(), self.config.data.join(greeting::PASSWORD_FILE));
                users::service(self.base(role).await?, &FirstAdministrator { password, file }).await
            }
            Role::Products => {
                products::service(self.base(role).await?, Inventory(to(Role::Inventory)?)).await
            }
            Role::Inventory => {
                let (base, bus) = (self.base(role).await?, self.bus().await?);
                inventory::service(base, &bus, Products(to(Role::Products)?)).await
            }
            Role::Orders => {
                let (base, bus) = (self.base(role).await?, self.bus().await?);
                let others = orders::Others {
                    users: Users(to(Role::Users)?),
                    products: Products(to(Role::Products)?),
                    inventory: Inventory(to(Role::Inventory)?),
                };
                let helpers = orders::Helpers {
                    inventory: Inventory(lines.to(Role::Inventory, Repeats::Saga)?),
                    payments: Payments::new(lines.to(Role::Payments, Repeats::Saga)?),
                    shipping: Shipping(lines.to(Role::Shipping, Repeats::Saga)?),
                };
                let terms = orders::Terms {
                    patience: self.config.checkout_deadline,
                    choreographed: self.addresses.local(Role::Payments).is_some(),
                };
                let store = base.store.clone();
                let made = orders::service(base, &bus, others, helpers, terms).await;
                if made.is_ok() {
                    self.paid_in = orders::paid_in(&store).await?;
                }
                made
            }
            Role::Payments => {
                let (paid_in, said) = (self.paid_in, self.config.payments_ledger);
                if let (Some(paid), None) = (paid_in, said) {
                    super::refuse_payments_that_know_nothing(self.config, paid)?;
                }
                let base = self.base(role).await?;
                // Alone in its process it would hear nobody, and nobody it.
                let bus = if self.config.role.is_none() { Some(self.bus().await?) } else { None };
                let network =
                    CardNetwork::new(&self.open("card-network").await?, &self.process.clock).await?;
                let known = payments::KnownLedger { paid_in, said };
                payments::service(base, bus.as_ref(), (network, lines.card_network()), known).await
            }
            Role::Shipping => {
                let (base, bus) = (self.base(role).await?, self.bus().await?);
                shipping::service(base, &bus).await
            }
            Role::Gateway | Role::Assistant | Role::Console => return Ok(None),
        };
        made.map(Some).map_err(|error: Cause| anyhow!(error))
    }

    async fn base(&mut self, role: Role) -> anyhow::Result<Base> {
        let store = self.open(role.name()).await?;
        let Process { clock, metrics, .. } = self.process;
        let base = Base::new(role.name(), store, clock.clone(), self.verifier.clone());
        // Orders have by far the most keys: whoever else takes one tells them.
        let about = if role == Role::Orders { About::Announced } else { About::Everybody };
        Ok(base.metrics(metrics).elsewhere(self.elsewhere(role)?, about))
    }

    /// The other services that a caller may have used a key at.
    fn elsewhere(&self, role: Role) -> anyhow::Result<Vec<Elsewhere>> {
        let lines = Lines::new(self.process, self.addresses);
        let takers = [
            (Role::Users, Of::Users),
            (Role::Orders, Of::Users),
            (Role::Products, Of::Administrators),
            (Role::Inventory, Of::Administrators),
        ];
        let others = takers.into_iter().filter(|(other, _)| *other != role);
        let line =
            |(other, of)| Ok(Elsewhere { name: Role::name(other), keys: Keys(lines.keys(other)?), of });
        others.map(line).collect()
    }

    async fn bus(&mut self) -> anyhow::Result<Bus> {
        if let Some(bus) = &self.bus {
            return Ok(bus.clone());
        }
        let bus = Bus::embedded(self.open("bus").await?);
        self.bus = Some(bus.clone());
        Ok(bus)
    }

    async fn open(&mut self, name: &str) -> anyhow::Result<Store> {
        let store = self.stores.open(self.process, &self.config.store, name).await?;
        let key = self.config.master_key.as_deref().map(MasterKey::parse).transpose()?;
        // Nobody could log in, and nobody new be registered: who starts it is to learn that at once.
        store.check_master_key(key.as_ref()).await.with_context(|| {
            format!("the store of `{name}` does not go with SHOP_MASTER_KEY; see docs/problems/wrong-master-key.md")
        })?;
        let store = match key {
            Some(key) => store.with_master_key(key),
            None => store,
        };
        self.kept.push(Served { name: name.to_owned(), store: store.clone() });
        Ok(store)
    }
}

impl Roles {
    /// Does what is to be done before the process is ready, and waits until it is.
    pub async fn prepare(&self, process: &Process) -> anyhow::Result<()> {
        for (name, first) in &self.firsts {
            let mut attempt = 0;
            while let Err(error) = first().await {
                attempt += 1;
                if attempt % 20 == 0 {
                    tracing::warn!(service = name, error = &*error, "not ready yet");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        process.health.until_ready().await;
        if let Some(gateway) = &self.gateway {
            while gateway.readiness().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}
