//! PE32+ images, as far as appending sections to an EFI stub needs them.
//!
//! Offsets are those of the PE format specification (<https://learn.microsoft.com/windows/win32/debug/pe-format>).
//! Written by hand because objcopy, the usual tool, stamps the time into the file and leaves its checksum wrong.

use std::borrow::Cow;

/// Size of a row of the section table.
const ROW: usize = 40;
/// Windows' page size, at which every appended section starts in memory.
const PAGE: u32 = 4096;
/// Index of the attribute certificate table (signatures) among the data directories.
const SECURITY_DIRECTORY: usize = 4;
/// Index of the debug directory, which holds file offsets.
const DEBUG_DIRECTORY: usize = 6;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// Why bytes are not a PE image that sections can be appended to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// The file ends within a structure.
    #[error("the file ends within its {0}")]
    Truncated(&'static str),
    /// Not an x86-64 EFI application.
    #[error("not an x86-64 EFI application: {0}")]
    NotEfi(&'static str),
    /// A structure contradicts another.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The image is already signed.
    #[error("already signed: use the unsigned file")]
    Signed,
    /// A section of that name is there.
    #[error("there is a section {0} already")]
    Duplicate(String),
    /// A section name of more than 8 bytes.
    #[error("section name {0} has more than 8 bytes")]
    LongName(String),
    /// Sections do not fit into 32 bits.
    #[error("more than 4 GiB")]
    TooLarge,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its name, at most 8 bytes.
    pub name: String,
    /// Where it is in memory, in bytes from the image's base.
    pub address: u32,
    /// Its size in memory in bytes.
    pub size: u32,
    /// What the section is for: the bits of `IMAGE_SCN_…`.
    pub characteristics: u32,
    /// Its bytes in the file; shorter than `size` where the rest is zero, longer where the file is padded.
    pub data: Cow<'a, [u8]>,
}

/// A parsed image.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    /// DOS header, PE signature, COFF and optional header.
    headers: Vec<u8>,
    /// Offset of the COFF header within them.
    coff: usize,
    section_alignment: u32,
    file_alignment: u32,
    sections: Vec<Section<'a>>,
}

fn u16_at(bytes: &[u8], at: usize, what: &'static str) -> Result<u16, PeError> {
    let found = at.checked_add(2).and_then(|end| bytes.get(at..end)).ok_or(PeError::Truncated(what))?;
    Ok(u16::from_le_bytes([found[0], found[1]]))
}

fn u32_at(bytes: &[u8], at: usize, what: &'static str) -> Result<u32, PeError> {
    let found = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(PeError::Truncated(what))?;
    Ok(u32::from_le_bytes([found[0], found[1], found[2], found[3]]))
}

fn align(value: u32, to: u32) -> Result<u32, PeError> {
    value.checked_next_multiple_of(to).ok_or(PeError::TooLarge)
}

impl<'a> Image<'a> {
    /// Reads an x86-64 EFI application.
    ///
    /// # Errors
    /// When the bytes are not one, or are signed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(PeError::NotEfi("no MZ signature"));
        }
        let pe = u32_at(bytes, 0x3c, "DOS header")? as usize;
        if u32_at(bytes, pe, "PE signature")? != u32::from_le_bytes(*b"PE\0\0") {
            return Err(PeError::NotEfi("no PE signature"));
        }
        let coff = pe + 4;
        if u16_at(bytes, coff, "COFF header")? != 0x8664 {
            return Err(PeError::NotEfi("not for x86-64"));
        }
        let count = u16_at(bytes, coff + 2, "COFF header")? as usize;
        let optional_size = u16_at(bytes, coff + 16, "COFF header")? as usize;
        let optional = coff + 20;
        let table = optional + optional_size;
        let headers = bytes.get(..table).ok_or(PeError::Truncated("optional header"))?.to_vec();
        if optional_size < 112 || u16_at(&headers, optional, "optional header")? != 0x20b {
            return Err(PeError::NotEfi("not PE32+"));
        }
        if u16_at(&headers, optional + 68, "optional header")? != 10 {
            return Err(PeError::NotEfi("not an EFI application"));
        }
        let section_alignment = u32_at(&headers, optional + 32, "optional header")?;
        let file_alignment = u32_at(&headers, optional + 36, "optional header")?;
        if !section_alignment.is_power_of_two()
            || !file_alignment.is_power_of_two()
            || file_alignment > 1 << 16
        {
            return Err(PeError::Damaged("alignments are not powers of two"));
        }
        let directories = u32_at(&headers, optional + 108, "optional header")? as usize;
        let directory = |index: usize| -> Result<u32, PeError> {
            if index >= directories {
                return Ok(0);
            }
            u32_at(&headers, optional + 112 + index * 8, "data directories")
        };
        if directory(SECURITY_DIRECTORY)? != 0 {
            return Err(PeError::Signed);
        }
        if directory(DEBUG_DIRECTORY)? != 0 {
            return Err(PeError::Damaged("it holds debugging data, whose file offsets would go wrong"));
        }
        let mut sections = Vec::with_capacity(count);
        for index in 0..count {
            let row = table + index * ROW;
            let row = bytes.get(row..row + ROW).ok_or(PeError::Truncated("section table"))?;
            sections.push(Self::section_row(bytes, row)?);
        }
        Ok(Self { headers, coff, section_alignment, file_alignment, sections })
    }

    fn section_row(bytes: &'a [u8], row: &[u8]) -> Result<Section<'a>, PeError> {
        let name = row[..8].split(|byte| *byte == 0).next().unwrap_or_default();
        let start = u32_at(row, 20, "section table")? as usize;
        let length = u32_at(row, 16, "section table")? as usize;
        let data = start.checked_add(length).and_then(|end| bytes.get(start..end));
        Ok(Section {
            name: std::str::from_utf8(name)
                .map_err(|_| PeError::Damaged("section name is not text"))?
                .to_owned(),
            address: u32_at(row, 12, "section table")?,
            size: u32_at(row, 8, "section table")?,
            characteristics: u32_at(row, 36, "section table")?,
            data: Cow::Borrowed(data.ok_or(PeError::Truncated("sections"))?),
        })
    }

    /// The sections, in the order of the table.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The bytes of a section without the file's padding.
    pub fn section(&self, name: &str) -> Option<&[u8]> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        Some(&section.data[..section.data.len().min(section.size as usize)])
    }

    /// Appends read-only data as a section behind all others.
    ///
    /// # Errors
    /// When the name is taken or too long, or the image would leave 32 bits.
    pub fn append(&mut self, name: &str, data: impl Into<Cow<'a, [u8]>>) -> Result<(), PeError> {
        if name.len() > 8 {
            return Err(PeError::LongName(name.to_owned()));
        }
        if self.sections.iter().any(|section| section.name == name) {
            return Err(PeError::Duplicate(name.to_owned()));
        }
        let data = data.into();
        let size = u32::try_from(data.len()).map_err(|_| PeError::TooLarge)?;
        let address = align(self.end()?, self.section_alignment.max(PAGE))?;
        address.checked_add(size).ok_or(PeError::TooLarge)?;
        self.sections.push(Section {
            name: name.to_owned(),
            address,
            size,
            characteristics: READ_ONLY_DATA,
            data,
        });
        Ok(())
    }

    /// First byte of memory behind every section.
    fn end(&self) -> Result<u32, PeError> {
        let mut end = 0;
        for section in &self.sections {
            let size = section.size.max(u32::try_from(section.data.len()).map_err(|_| PeError::TooLarge)?);
            end = end.max(section.address.checked_add(size).ok_or(PeError::TooLarge)?);
        }
        Ok(end)
    }

    /// The image as a file: no time stamp, no symbols, right checksum.
    ///
    /// # Errors
    /// When the header does not fit before the first section's memory, or the file would leave 32 bits.
    pub fn write(&self) -> Result<Vec<u8>, PeError> {
        let table_end = self.headers.len() + self.sections.len() * ROW;
        let header_size =
            align(u32::try_from(table_end).map_err(|_| PeError::TooLarge)?, self.file_alignment)?;
        if self.sections.iter().any(|section| section.address < header_size) {
            return Err(PeError::Damaged("no room for more rows in its section table"));
        }
        let mut file = self.headers.clone();
        let mut at = header_size;
        for section in &self.sections {
            let padded = align(
                u32::try_from(section.data.len()).map_err(|_| PeError::TooLarge)?,
                self.file_alignment,
            )?;
            let mut row = [0; ROW];
            row[..section.name.len()].copy_from_slice(section.name.as_bytes());
            row[8..12].copy_from_slice(&section.size.to_le_bytes());
            row[12..16].copy_from_slice(&section.address.to_le_bytes());
            row[16..20].copy_from_slice(&padded.to_le_bytes());
            row[20..24].copy_from_slice(&if padded == 0 { 0 } else { at }.to_le_bytes());
            row[36..40].copy_from_slice(&section.characteristics.to_le_bytes());
            file.extend_from_slice(&row);
            at = at.checked_add(padded).ok_or(PeError::TooLarge)?;
        }
        file.reserve(at as usize - file.len());
        file.resize(header_size as usize, 0);
        for section in &self.sections {
            file.extend_from_slice(&section.data);
            file.resize(file.len().next_multiple_of(self.file_alignment as usize), 0);
        }
        self.patch_headers(&mut file, header_size)?;
        Ok(file)
    }

    /// Writes the header fields that follow from the sections.
    fn patch_headers(&self, file: &mut [u8], header_size: u32) -> Result<(), PeError> {
        let optional = self.coff + 20;
        let mut put = |at: usize, value: u32| file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(self.coff + 4, 0); // time stamp
        put(self.coff + 8, 0); // symbol table, which lay behind the sections and is left out
        put(self.coff + 12, 0);
        let mut initialised: u32 = 0;
        for section in self.sections.iter().filter(|section| section.characteristics & 0x40 != 0) {
            let size = align(section.data.len() as u32, self.file_alignment)?;
            initialised = initialised.checked_add(size).ok_or(PeError::TooLarge)?;
        }
        put(optional + 8, initialised);
        put(optional + 56, align(self.end()?, self.section_alignment)?);
        put(optional + 60, header_size);
        put(optional + 64, 0);
        let count = u16::try_from(self.sections.len()).map_err(|_| PeError::TooLarge)?;
        file[self.coff + 2..self.coff + 4].copy_from_slice(&count.to_le_bytes());
        let sum = checksum(file);
        file[optional + 64..optional + 68].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }
}

/// A PE image's checksum, taken while the field itself is zero: 16-bit words with the carry added back, and the length.
fn checksum(file: &[u8]) -> u32 {
    let mut sum: u64 = 0;
    let words = file.chunks_exact(2);
    if let [last] = words.remainder() {
        sum += u64::from(*last);
    }
    for word in words {
        sum += u64::from(u16::from_le_bytes([word[0], word[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u32).wrapping_add(file.len() as u32)
}
