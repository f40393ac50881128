//! Judging one instance: findings, disposition, answer (profile 01 §1, §2, §4).

use super::check::Occurrence;
use super::facts::Source;
use super::facts::{Context, Facts};
use super::identity::InstanceIdentity;
use super::level::Level;
use super::parameters::WarnStatus;
use super::reply::{Answer, Disposition, Finding, Reply, Stage};
use super::set::{Rule, Rules};
use crate::scan::Scan;
use dicom_core::Tag;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the rules say of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Rules that failed, by stage and id.
    pub findings: Vec<Finding>,
    /// What becomes of it.
    pub disposition: Disposition,
    /// Status of the success answer: 0000H, or B007H with warnings and `warn_status = "B007"`.
    pub success_status: u16,
    /// UIDs, patient and order; `None` if a UID is absent or malformed.
    pub identity: Option<InstanceIdentity>,
}

impl Verdict {
    /// The failure answer, if it is refused.
    pub fn refused(&self) -> Option<&Answer> {
        match &self.disposition {
            Disposition::Refuse(answer) => Some(answer),
            Disposition::Accept | Disposition::Quarantine => None,
        }
    }
}

impl Rules {
    /// The rule of something that the listener met, at its level; `None` if the rule is OFF. The finding's
    /// [`Reply`] is what goes over the wire.
    pub fn occurrence(&self, occurrence: Occurrence, at: Timestamp) -> Option<Finding> {
        let rule = self.of_occurrence(occurrence)?;
        let level = self.level(rule, at);
        (level != Level::Off).then(|| self.finding(rule, level, &[]))
    }

    /// Stage S, and stage I unless S rejects. Reads nothing but this instance.
    pub fn judge_instance(&self, scan: &Scan, context: &Context<'_>) -> Verdict {
        self.judge(scan, context, &[Stage::S, Stage::I])
    }

    fn judge(&self, scan: &Scan, context: &Context<'_>, stages: &[Stage]) -> Verdict {
        let facts = Facts::new(scan, context, self);
        let mut found: Vec<Option<Vec<Tag>>> = vec![None; self.rules.len()];
        let mut findings: Vec<Finding> = Vec::new();
        for stage in stages {
            if findings.iter().any(|finding| finding.level.rejects()) {
                break;
            }
            let first = findings.len();
            for index in &self.order {
                let rule = &self.rules[*index];
                let level = self.level(rule, context.received);
                let here = rule.stage == *stage && (rule.sources().is_empty() || rule.sources().contains(&facts.source_kind()));
                if level == Level::Off || !here {
                    continue;
                }
                let failed_before = || rule.after.iter().filter_map(|other| found[*other].as_ref());
                if !rule.after_same_tag() && failed_before().next().is_some() {
                    continue;
                }
                let excluded: Vec<Tag> = failed_before().flatten().copied().collect();
                if let Some(tags) = rule.check().evaluate(&facts, &excluded) {
                    findings.push(self.finding(rule, level, &tags));
                    found[*index] = Some(tags);
                }
            }
            findings[first..].sort_by(|a, b| a.rule.cmp(&b.rule));
        }
        let warned = findings.iter().any(|finding| finding.level == Level::Warn);
        let warning = warned && self.parameters().warn_status == WarnStatus::Warning;
        Verdict {
            disposition: disposition(&findings, context),
            success_status: if warning { 0xB007 } else { 0x0000 },
            identity: InstanceIdentity::of(&facts),
            findings,
        }
    }

    pub(super) fn level(&self, rule: &Rule, at: Timestamp) -> Level {
        rule.levels.at(TimeZone::UTC.to_datetime(at).date(), self.environment)
    }

    pub(super) fn finding(&self, rule: &Rule, level: Level, tags: &[Tag]) -> Finding {
        Finding {
            rule: rule.id.clone(),
            name: rule.name.clone(),
            stage: rule.stage,
            level,
            reply: rule.reply.clone(),
            tags: rule.offending.tags(tags),
            comment: rule.comment.clone(),
            remedy: rule.remedy.clone(),
            rule_set: self.rule_set.clone(),
        }
    }
}

/// §1 no. 1–3. Findings come by stage, then id: the first that refuses is the answer.
fn disposition(findings: &[Finding], context: &Context<'_>) -> Disposition {
    let mut rejecting = findings.iter().filter(|finding| finding.level.rejects()).peekable();
    if rejecting.peek().is_none() {
        return Disposition::Accept;
    }
    if matches!(context.source, Source::DropFolder) {
        return Disposition::Quarantine;
    }
    let quarantines = |finding: &Finding| finding.stage == Stage::I && finding.level != Level::RejectLocked && context.refuse_to_quarantine;
    let refusing = rejecting.find(|finding| !quarantines(finding));
    match refusing {
        None => Disposition::Quarantine,
        Some(finding) => Disposition::Refuse(Answer {
            // Every rule of stages S and I that judges a data set has a status; 0110H is that of a fault in the evaluator.
            status: if let Reply::Status(status) = finding.reply { status } else { 0x0110 },
            offending: finding.tags.clone(),
            comment: finding.comment.clone(),
        }),
    }
}
