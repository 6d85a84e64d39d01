//! The result tables of arXiv 2411.19930 (version 4) as data, and a writer that lays a user's runs beside them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{AnswerType, EvalError, Grid, Report, tasks};

/// One of the paper's tables.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PaperTable {
    /// `T2`, `T3a`, `T3b`, `T4`, `T5`.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Its columns, without the average that [`PaperTable::beside`] adds.
    pub columns: Vec<PaperColumn>,
    /// Its rows.
    pub rows: Vec<PaperRow>,
}

/// A column: one score of one task, or a domain's average over its tasks' scores.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PaperColumn {
    /// The header.
    pub name: String,
    /// The task.
    #[serde(default)]
    pub task: Option<String>,
    /// Which of the task's scores.
    #[serde(default)]
    pub answer_type: Option<AnswerType>,
    /// The domain, where the column is an average.
    #[serde(default)]
    pub domain: Option<String>,
}

/// A system's numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PaperRow {
    /// The system's name.
    pub system: String,
    /// One number per column, 0 to 100.
    pub values: Vec<f64>,
}

/// A user's run to lay beside the paper's.
#[derive(Clone, Copy, Debug)]
pub struct TableRun<'a> {
    /// The run's name.
    pub name: &'a str,
    /// Its reports, one per task.
    pub reports: &'a [Report],
    /// The only column it belongs to, by name; all that its reports can fill where `None`. Table T4 needs it: nothing in a
    /// report tells how the model was trained.
    pub column: Option<&'a str>,
}

static TABLES: LazyLock<Vec<PaperTable>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/paper_tables.json")).expect("the built-in tables are tested")
});

/// All tables: T2 (biomedicine), T3a (food), T3b (remote sensing), T4 (training pipelines), T5 (ablations).
pub fn paper_tables() -> &'static [PaperTable] {
    &TABLES
}

/// One table by its id.
///
/// # Errors
/// [`EvalError::Unknown`].
pub fn paper_table(id: &str) -> Result<&'static PaperTable, EvalError> {
    let names = || paper_tables().iter().map(|table| table.id.as_str()).collect::<Vec<_>>().join(", ");
    let found = paper_tables().iter().find(|table| table.id.eq_ignore_ascii_case(id));
    found.ok_or_else(|| EvalError::Unknown { what: "table", got: id.into(), expected: names() })
}

/// The tables to which the runs have something to add, with the runs below the paper's rows. A run says in
/// [`TableRun::column`] where in table T4 it belongs; the other tables take whatever its reports can fill.
pub fn tables_beside(runs: &[TableRun<'_>]) -> Vec<Grid> {
    let fits = |table: &PaperTable, run: &TableRun<'_>| match table.id.as_str() {
        "T4" => run.column.is_some(),
        _ => table
            .columns
            .iter()
            .any(|column| column.value(&TableRun { column: None, ..*run }, Scoring::Paper).is_some()),
    };
    let table = |table: &'static PaperTable| {
        let only = |run: &TableRun<'_>| if table.id == "T4" { run.column.map(str::to_owned) } else { None };
        let columns: Vec<Option<String>> = runs.iter().map(only).collect();
        let fitting = runs.iter().zip(&columns).filter(|(run, _)| fits(table, run));
        let runs: Vec<_> = fitting.map(|(run, column)| TableRun { column: column.as_deref(), ..*run }).collect();
        (!runs.is_empty()).then(|| table.beside(&runs))
    };
    paper_tables().iter().filter_map(table).collect()
}

impl PaperTable {
    /// The table with two rows for each run below it: in the paper's scoring, which is comparable, and in the strict one. An
    /// average is the unweighted mean of its columns, as in the paper, and absent where one of them is.
    pub fn beside(&self, runs: &[TableRun<'_>]) -> Grid {
        let per_task = self.columns.iter().all(|column| column.task.is_some());
        let mut header = vec!["system".to_owned()];
        header.extend(self.columns.iter().map(|column| column.name.clone()));
        header.extend(per_task.then(|| "average".to_owned()));

        let mut grid = Grid { title: format!("{}: {}", self.id, self.title), header, rows: Vec::new() };

        let mut push = |name: String, values: Vec<Option<f64>>| {
            let average = per_task.then(|| mean(&values));
            let cells = values.into_iter().chain(average).map(number);
            grid.rows.push(std::iter::once(name).chain(cells).collect());
        };

        for row in &self.rows {
            push(row.system.clone(), row.values.iter().copied().map(Some).collect());
        }
        for run in runs {
            for scoring in [Scoring::Paper, Scoring::Strict] {
                let name = format!("{} ({})", run.name, if scoring == Scoring::Paper { "paper" } else { "strict" });
                push(name, self.columns.iter().map(|column| column.value(run, scoring)).collect());
            }
        }

        grid
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Scoring {
    Paper,
    Strict,
}

impl PaperColumn {
    fn value(&self, run: &TableRun<'_>, scoring: Scoring) -> Option<f64> {
        if run.column.is_some_and(|only| only != self.name) {
            return None;
        }
        match (&self.task, &self.domain) {
            (Some(task), _) => task_score(run.reports, task, self.answer_type?, scoring),
            (None, Some(domain)) => domain_average(run.reports, domain, scoring),
            (None, None) => None,
        }
    }
}

fn task_score(reports: &[Report], task: &str, answer_type: AnswerType, scoring: Scoring) -> Option<f64> {
    let group = reports.iter().find(|report| report.benchmark == task)?.by_type.get(&answer_type)?;
    Some(if scoring == Scoring::Paper { group.paper } else { group.strict }?.mean)
}

/// The mean over the columns of the domain's own table.
fn domain_average(reports: &[Report], domain: &str, scoring: Scoring) -> Option<f64> {
    let tasks: Vec<&str> = tasks::of_domain(domain).ok()?.iter().map(|task| task.name.as_str()).collect();
    let belongs = |column: &PaperColumn| column.task.as_deref().is_some_and(|task| tasks.contains(&task));
    let table = paper_tables().iter().find(|table| table.columns.iter().all(belongs))?;
    let scores = table.columns.iter().map(|column| {
        let (task, answer_type) = (column.task.as_deref()?, column.answer_type?);
        task_score(reports, task, answer_type, scoring)
    });
    mean(&scores.collect::<Vec<_>>())
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let sum: f64 = values.iter().copied().sum::<Option<f64>>()?;
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootstrapConfig, Outcome};

    /// The averages that the paper prints in table 4 for the single-stage runs on its own data, recomputed from the rows
    /// of tables 2 and 3.
    #[test]
    fn averages_agree_with_the_paper() {
        let average = |table: &str, system: &str| {
            let grid = paper_table(table).expect("a table").beside(&[]);
            let row = grid.rows.iter().find(|row| row[0] == system).expect("a row").clone();
            row.last().expect("an average").parse::<f64>().expect("a number")
        };
        let of_table_4 = |row: usize, column: usize| paper_table("T4").expect("a table").rows[row].values[column];
        for (row, size) in ["8B", "2B", "11B"].into_iter().enumerate() {
            assert!((average("T3a", &format!("AdaMLLM-{size}")) - of_table_4(row, 3)).abs() < 0.11);
            assert!((average("T2", &format!("AdaMLLM-{size} PMCRaw")) - of_table_4(row, 7)).abs() < 0.11);
            assert!((average("T2", &format!("AdaMLLM-{size} PMCRefined")) - of_table_4(row, 11)).abs() < 0.11);
        }
    }

    #[test]
    fn every_column_exists() {
        for table in paper_tables() {
            assert!(table.rows.iter().all(|row| row.values.len() == table.columns.len()), "{}", table.id);
            for column in &table.columns {
                let task = column.task.as_ref().map(|task| tasks::named(task).expect("a task").name == *task);
                let domain = column.domain.as_ref().map(|domain| tasks::of_domain(domain).is_ok());
                assert_eq!(task.or(domain), Some(true), "{} {}", table.id, column.name);
            }
        }
        assert!(matches!(paper_table("T9"), Err(EvalError::Unknown { .. })));
    }

    fn report(task: &str, answer_type: AnswerType, paper: f64) -> Report {
        let outcome = Outcome {
            id: adamllm_core::RecordId::given("1"),
            answer_type,
            cluster: "1".into(),
            paper: Some(paper),
            strict: paper / 2.0,
            unparsed: false,
            random: false,
            expected: String::new(),
            strict_read: None,
            paper_read: None,
        };
        Report::new(task, &[], &[outcome], &BootstrapConfig::default())
    }

    #[test]
    fn a_run_stands_below() {
        let types = [AnswerType::Text, AnswerType::Labels, AnswerType::Category, AnswerType::Labels];
        let names = ["Recipe1M", "Nutrition5K", "Food101", "FoodSeg103"];
        let reports: Vec<Report> = names.iter().zip(types).map(|(name, t)| report(name, t, 40.0)).collect();
        let run = TableRun { name: "ours", reports: &reports, column: None };
        let food = paper_table("t3a").expect("a table").beside(&[run]);
        let last = &food.rows[food.rows.len() - 2..];
        assert_eq!(last[0], ["ours (paper)", "40.0", "40.0", "40.0", "40.0", "40.0"]);
        assert_eq!(last[1], ["ours (strict)", "20.0", "20.0", "20.0", "20.0", "20.0"]);
        let part = TableRun { reports: &reports[..1], ..run };
        assert_eq!(paper_table("T3a").expect("a table").beside(&[part]).rows.pop().expect("a row")[5], "–");

        let ablation = paper_table("T5").expect("a table").beside(&[run]).rows;
        assert_eq!(ablation[ablation.len() - 2], ["ours (paper)", "–", "40.0"]);
        let titles = |run| tables_beside(&[run]).into_iter().map(|grid| grid.title[..3].to_owned()).collect::<Vec<_>>();
        assert_eq!(titles(run), ["T3a", "T5:"]);
        assert_eq!(titles(part), ["T3a"]);
        let column = Some("Recipe1M, single stage, synthetic tasks");
        assert_eq!(titles(TableRun { column, ..run }), ["T3a", "T4:", "T5:"]);
        let below = tables_beside(&[TableRun { column, ..run }]).remove(1).rows.pop().expect("a row");
        assert_eq!(below.iter().filter(|cell| cell.parse::<f64>().is_ok()).count(), 1, "its own column: {below:?}");
        let pipeline = paper_table("T4").expect("a table").beside(&[TableRun { column, ..run }]).rows;
        let filled: Vec<_> = pipeline[3].iter().enumerate().filter(|(_, cell)| *cell == "40.0").collect();
        assert_eq!(filled, [(4, &"40.0".to_owned())]);
    }
}
