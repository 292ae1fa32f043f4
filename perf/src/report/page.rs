//! The page around the drawings: one file, nothing fetched, light and dark, for phones too.
//!
//! In: sections. Out: HTML. Text is escaped here; what is handed over as markup was made by us.

use std::fmt::Write as _;

use super::svg::escape;
use crate::claims::{Claim, Verdict};
use crate::record::Surroundings;

/// A drawing, what it shows, and who is who in it: (class of the style sheet, name).
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) caption: String,
    pub(super) svg: String,
    pub(super) legend: Vec<(String, String)>,
}

impl Figure {
    pub(super) fn new(caption: impl Into<String>, svg: String) -> Self {
        Self { caption: caption.into(), svg, legend: Vec::new() }
    }
}

/// A page under construction.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
}

impl Page {
    pub(super) fn new(title: &str, lead: &str) -> Self {
        let mut this = Self { title: title.to_owned(), body: String::new() };
        let (title, lead) = (escape(title), escape(lead));
        this.markup(&format!("<header><h1>{title}</h1><p class=\"lead\">{lead}</p></header>\n"));
        this
    }

    /// Large numbers with a word below, at the top.
    pub(super) fn tiles(&mut self, tiles: &[(String, String, &str)]) {
        self.markup("<div class=\"tiles\">");
        for (value, name, class) in tiles {
            let (value, name) = (escape(value), escape(name));
            self.markup(&format!(
                "<div class=\"tile {class}\"><b>{value}</b><span>{name}</span></div>"
            ));
        }
        self.markup("</div>\n");
    }

    pub(super) fn heading(&mut self, text: &str, explanation: &str) {
        let (text, explanation) = (escape(text), escape(explanation));
        self.markup(&format!("<h2>{text}</h2>\n<p>{explanation}</p>\n"));
    }

    /// Drawings side by side.
    pub(super) fn figures(&mut self, figures: &[Figure]) {
        self.markup("<div class=\"figures\">\n");
        for Figure { caption, svg, legend } in figures {
            let caption = escape(caption);
            self.markup(&format!("<figure><figcaption>{caption}</figcaption>\n{svg}"));
            if !legend.is_empty() {
                self.markup("<ul class=\"legend\">");
                for (class, name) in legend {
                    let name = escape(name);
                    self.markup(&format!("<li class=\"{class}\"><i></i>{name}</li>"));
                }
                self.markup("</ul>");
            }
            self.markup("</figure>\n");
        }
        self.markup("</div>\n");
    }

    /// A table that opens; the first column is text.
    pub(super) fn table(&mut self, summary: &str, head: &[&str], rows: &[Vec<String>]) {
        let summary = escape(summary);
        self.markup(&format!(
            "<details><summary>{summary}</summary><div class=\"scroll\"><table><thead><tr>"
        ));
        for name in head {
            self.markup(&format!("<th>{}</th>", escape(name)));
        }
        self.markup("</tr></thead><tbody>\n");
        for row in rows {
            self.markup("<tr>");
            for cell in row {
                self.markup(&format!("<td>{}</td>", escape(cell)));
            }
            self.markup("</tr>\n");
        }
        self.markup("</tbody></table></div></details>\n");
    }

    /// Verdicts: what was missed is open; what was held too, while it is short.
    pub(super) fn claims(&mut self, claims: &[Claim]) {
        for (verdict, words) in [
            (Verdict::Missed, "missed"),
            (Verdict::Held, "held"),
            (Verdict::NotAsked, "printed only"),
        ] {
            let of: Vec<&Claim> = claims.iter().filter(|claim| claim.verdict == verdict).collect();
            if of.is_empty() {
                continue;
            }
            let is_open = match verdict {
                Verdict::Missed => true,
                Verdict::Held => of.len() <= CLAIMS_OPEN_MAX,
                Verdict::NotAsked => false,
            };
            let open = if is_open { " open" } else { "" };
            let count = of.len();
            self.markup(&format!(
                "<details{open}><summary>{count} {words}</summary><ul class=\"claims\">\n"
            ));
            of.iter().for_each(|claim| self.claim(claim));
            self.markup("</ul></details>\n");
        }
    }

    fn claim(&mut self, claim: &Claim) {
        let Claim { what, cell, verdict, measured } = claim;
        let class = match verdict {
            Verdict::Held => "held",
            Verdict::Missed => "missed",
            Verdict::NotAsked => "neutral",
        };
        let (what, cell, measured) = (escape(what), escape(cell), escape(measured));
        let verdict = verdict.name();
        self.markup(&format!(
            "<li><span class=\"badge {class}\">{verdict}</span><span class=\"cell\">{cell}</span>\
             <span class=\"what\">{what}</span><span class=\"measured\">{measured}</span></li>\n"
        ));
    }

    /// Machine and flags, at the end.
    pub(super) fn surroundings(&mut self, surroundings: &Surroundings) {
        let Surroundings { time, machine, kernel, processor, cores, commit, profile, .. } =
            surroundings;
        let mut rows = vec![
            ("measured", time.clone()),
            ("commit", commit.clone()),
            ("processor", format!("{processor}, {cores} cores, {machine}")),
            ("kernel", kernel.clone()),
            ("build of the client", profile.clone()),
            ("RUSTFLAGS", surroundings.rustflags.clone()),
            ("load average before", surroundings.load_average.clone()),
            ("command", surroundings.command_line.join(" ")),
        ];
        let settings = surroundings.settings.iter();
        rows.extend(settings.map(|(name, value)| (name.as_str(), value.clone())));
        self.markup("<h2>Measured on</h2>\n<dl>\n");
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            let (name, value) = (escape(name), escape(value));
            self.markup(&format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
        }
        self.markup("</dl>\n");
    }

    pub(super) fn finish(self) -> String {
        let title = escape(&self.title);
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n{}</main></body></html>\n",
            self.body
        );
        page
    }

    fn markup(&mut self, markup: &str) {
        self.body.push_str(markup);
    }
}

/// More than fit on a screen are a click away.
const CLAIMS_OPEN_MAX: usize = 12;
const STYLE: &str = include_str!("style.css");
