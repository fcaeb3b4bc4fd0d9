//! What the fuzz target and the tests do with hostile bytes.

use terminal::{Cell, Cursor, Terminal};

fn shown(terminal: &Terminal) -> (Vec<(u16, u16, Cell)>, Cursor) {
    let mut cells = Vec::new();
    terminal.cells(|col, row, cell| cells.push((col, row, cell)));
    (cells, terminal.cursor())
}

/// The bytes are steps: one byte says what, and how much of the rest it takes. Output, new sizes, and terminals that are
/// drawn anew from the old, as at a suspend.
pub fn terminal(data: &[u8]) {
    let mut rest = data;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count.min(rest.len()));
        rest = left;
        taken
    };
    let mut terminal = Terminal::new(80, 25);
    while let [step] = take(1) {
        match step {
            0..=0xdf => drop(terminal.write(take(usize::from(*step % 0x40) + 1))),
            0xe0..=0xf7 => {
                let [cols, rows] = *take(2) else { break };
                // Mostly small ones: there a wide character is at an edge.
                let side = |n: u8| if n < 0xe0 { u16::from(n % 0x20) + 1 } else { u16::from(n) };
                terminal.resize(side(cols), side(rows));
            }
            _ => {
                let (cols, rows) = terminal.size();
                let mut next = Terminal::new(cols, rows);
                next.write(&terminal.drawing());
                assert_eq!(shown(&next), shown(&terminal));
                assert_eq!(next.text(), terminal.text());
                assert_eq!(next.failures(), 0);
                terminal = next;
            }
        }
        let ((cells, cursor), (cols, rows)) = (shown(&terminal), terminal.size());
        let taken: u32 = cells.iter().map(|(.., cell)| 1 + u32::from(cell.wide)).sum();
        assert_eq!(taken, u32::from(cols) * u32::from(rows));
        assert!(cells.iter().all(|(col, _, cell)| col + u16::from(cell.wide) < cols));
        assert!(cursor.col < cols && cursor.row < rows);
        assert_eq!(terminal.failures(), 0, "the emulation failed");
    }
}
