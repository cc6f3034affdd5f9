//! `purlin doctor`: what can be checked of an installation, and what to do about what is wrong.

mod calls;
mod database;
mod files;
mod finding;
mod log;
mod personal;
mod services;
mod views;

use std::process::ExitCode;

use serde_json::json;

use crate::arguments::Doctor;
use crate::operator::Operator;
use crate::place::Place;
use crate::table;
use finding::{Finding, Level};

/// What was found, line by line.
pub(super) struct Examined(Vec<Finding>);

/// Checks what can be checked; what cannot is a finding, too.
pub(super) async fn run(place: &Place, wanted: &Doctor) -> Examined {
    let mut found = Vec::new();
    match place {
        Place::Folder(folder) => files::folder(folder, None, None, &mut found).await,
        Place::File(file, archive) => {
            let folder = crate::operator::folder_of(file);
            files::folder(&folder, Some(file), archive.as_deref(), &mut found).await;
        }
        Place::Database { url, service } => {
            database::examine(place, url, service.as_deref(), &mut found).await;
        }
    }
    if found.iter().any(|finding| finding.level == Level::Fail && finding.ends) {
        return Examined(found);
    }
    match Operator::reach(place).await {
        Ok(operator) => {
            services::examine(&operator, &mut found).await;
            calls::examine(&operator, &mut found).await;
            if wanted.log {
                log::examine(&operator, place, &mut found).await;
            }
            operator.close().await;
        }
        Err(failure) => found.push(Finding::fail("services", failure.told(), "see above")),
    }
    Examined(found)
}

impl Examined {
    fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// 0, 1 or 2.
    pub(super) fn status(&self) -> ExitCode {
        ExitCode::from(self.worst() as u8)
    }

    pub(super) fn shown(&self, json: bool) -> String {
        if json {
            return table::pretty(&json!({ "level": self.worst().name(), "findings": self.0 })) + "\n";
        }
        let width = self.0.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
        self.0.iter().map(|finding| finding.line(width)).collect()
    }
}
