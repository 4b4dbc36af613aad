//! Columns as Apache's tool sets them: to the left, one space between, at least so wide, some as wide as their longest value.

/// Rows under a header.
pub(super) struct Table {
    columns: Vec<(&'static str, usize)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The names of columns and their least widths.
    pub(super) fn new(columns: &[(&'static str, usize)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, without the end of the last one. Columns in `growing` are as wide as their longest value; whether the last
    /// column is filled up with spaces differs from table to table.
    pub(super) fn text(&self, fill_last: bool, growing: &[usize]) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(_, width)| *width).collect();
        for column in growing {
            let cells = self.rows.iter().map(|row| row[*column].encode_utf16().count());
            widths[*column] = cells.max().unwrap_or(0).max(widths[*column]);
        }
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = std::iter::once(&header).chain(&self.rows).map(|cells| {
            let mut line = String::new();
            for (at, cell) in cells.iter().enumerate() {
                if at > 0 {
                    line.push(' ');
                }
                line.push_str(cell);
                if at + 1 < cells.len() || fill_last {
                    let padding = widths[at].saturating_sub(cell.encode_utf16().count());
                    line.push_str(&" ".repeat(padding));
                }
            }
            line
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
