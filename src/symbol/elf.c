/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

static size_t segment_sz(const struct ap_elf *elf)
{
    return elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
}

static size_t section_sz(const struct ap_elf *elf)
{
    return elf->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
}

int ap_elf_read(int fd, void *ret_data, size_t len, uint64_t off)
{
    char *pos = ret_data;
    ssize_t n;

    if (off > INT64_MAX)
        return -EBADMSG; /* where no file is; to pread() it is a negative offset */
    while (len) {
        n = pread(fd, pos, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EBADMSG; /* shorter than it says, or cut while we read */
        pos += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

bool ap_elf_inside(const struct ap_elf *elf, uint64_t off, uint64_t len)
{
    return off <= elf->sz && len <= elf->sz - off;
}

int ap_elf_begin(int fd, struct ap_elf *ret_elf)
{
    union {
        unsigned char ident[EI_NIDENT];
        Elf32_Ehdr h32;
        Elf64_Ehdr h64;
    } head = {0};
    struct ap_elf elf = {.fd = fd};
    struct stat st;
    int rc;

    if (fstat(fd, &st))
        return -errno;
    elf.sz = (uint64_t)st.st_size;
    if (elf.sz < sizeof(head.h32))
        return -ENOEXEC;
    rc = ap_elf_read(fd, &head, elf.sz < sizeof(head) ? sizeof(head.h32) : sizeof(head), 0);
    if (rc)
        return rc;
    if (memcmp(head.ident, ELFMAG, SELFMAG))
        return -ENOEXEC;
    if (head.ident[EI_DATA] != OUR_DATA)
        return -EOPNOTSUPP;
    elf.is64 = head.ident[EI_CLASS] == ELFCLASS64;
    if (elf.is64 ? elf.sz < sizeof(head.h64) : head.ident[EI_CLASS] != ELFCLASS32)
        return -EBADMSG;
    elf.type = elf.is64 ? head.h64.e_type : head.h32.e_type;
    elf.machine = elf.is64 ? head.h64.e_machine : head.h32.e_machine;
    elf.names = elf.is64 ? head.h64.e_shstrndx : head.h32.e_shstrndx;
    elf.ph_off = elf.is64 ? head.h64.e_phoff : head.h32.e_phoff;
    elf.sh_off = elf.is64 ? head.h64.e_shoff : head.h32.e_shoff;
    elf.ph_cnt = elf.is64 ? head.h64.e_phnum : head.h32.e_phnum;
    elf.sh_cnt = elf.is64 ? head.h64.e_shnum : head.h32.e_shnum;
    if (elf.ph_cnt >= AP_ELF_HEADERS_MAX || !ap_elf_inside(&elf, elf.ph_off, elf.ph_cnt * segment_sz(&elf)) ||
        !ap_elf_inside(&elf, elf.sh_off, elf.sh_cnt * section_sz(&elf)))
        return -EBADMSG;
    *ret_elf = elf;
    return 0;
}

/* Reads header `i` of a table of `cnt` headers of `size` bytes, a block of them at a time. */
static int read_header(int fd, struct ap_elf_block *block, uint64_t table_off, uint32_t cnt, size_t size, uint32_t i,
                       void *ret_header)
{
    uint32_t per_block = (uint32_t)(sizeof(block->data) / size);
    uint32_t first = i - i % per_block, in_block = cnt - first < per_block ? cnt - first : per_block;
    int rc;

    if (!block->valid || block->first != first) {
        block->valid = false;
        rc = ap_elf_read(fd, block->data, in_block * size, table_off + (uint64_t)first * size);
        if (rc)
            return rc;
        block->valid = true;
        block->first = first;
    }
    memcpy(ret_header, block->data + (i - first) * size, size);
    return 0;
}

int ap_elf_segment(const struct ap_elf *elf, struct ap_elf_block *block, uint32_t i, struct ap_elf_segment *ret_segment)
{
    Elf32_Phdr h32;
    Elf64_Phdr h64;
    int rc;

    rc = read_header(elf->fd, block, elf->ph_off, elf->ph_cnt, segment_sz(elf), i,
                     elf->is64 ? (void *)&h64 : (void *)&h32);
    if (rc)
        return rc;
    if (elf->is64)
        *ret_segment =
            (struct ap_elf_segment){h64.p_type, h64.p_flags, h64.p_offset, h64.p_vaddr, h64.p_filesz, h64.p_memsz};
    else
        *ret_segment =
            (struct ap_elf_segment){h32.p_type, h32.p_flags, h32.p_offset, h32.p_vaddr, h32.p_filesz, h32.p_memsz};
    return 0;
}

int ap_elf_section(const struct ap_elf *elf, struct ap_elf_block *block, uint32_t i, struct ap_elf_section *ret_section)
{
    Elf32_Shdr h32;
    Elf64_Shdr h64;
    int rc;

    rc = read_header(elf->fd, block, elf->sh_off, elf->sh_cnt, section_sz(elf), i,
                     elf->is64 ? (void *)&h64 : (void *)&h32);
    if (rc)
        return rc;
    if (elf->is64)
        *ret_section = (struct ap_elf_section){h64.sh_name, h64.sh_type,   h64.sh_link, h64.sh_flags,
                                               h64.sh_addr, h64.sh_offset, h64.sh_size};
    else
        *ret_section = (struct ap_elf_section){h32.sh_name, h32.sh_type,   h32.sh_link, h32.sh_flags,
                                               h32.sh_addr, h32.sh_offset, h32.sh_size};
    return 0;
}

/* Looks for the GNU build id among the notes of one segment. */
static void find_build_id(const char *notes, size_t len, struct ap_elf_info *info)
{
    Elf64_Nhdr note; /* the same layout in both classes */
    size_t name_sz, desc_sz;

    while (len >= sizeof(note)) {
        memcpy(&note, notes, sizeof(note));
        notes += sizeof(note);
        len -= sizeof(note);
        name_sz = ((size_t)note.n_namesz + 3) & ~(size_t)3;
        desc_sz = ((size_t)note.n_descsz + 3) & ~(size_t)3;
        if (name_sz > len || desc_sz > len - name_sz)
            return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !memcmp(notes, "GNU", 4) && note.n_descsz) {
            info->build_id_len = (uint8_t)(note.n_descsz < AP_BUILD_ID_MAX ? note.n_descsz : AP_BUILD_ID_MAX);
            memcpy(info->build_id, notes + name_sz, info->build_id_len);
            return;
        }
        notes += name_sz + desc_sz;
        len -= name_sz + desc_sz;
    }
}

static int read_notes(const struct ap_elf *elf, struct ap_elf_info *info)
{
    struct ap_elf_block block = {0};
    char notes[AP_ELF_NOTE_SZ_MAX];
    struct ap_elf_segment segment;
    size_t len;
    uint32_t i;
    int rc;

    for (i = 0; i < elf->ph_cnt && !info->build_id_len; i++) {
        rc = ap_elf_segment(elf, &block, i, &segment);
        if (rc)
            return rc;
        if (segment.type != PT_LOAD && segment.type != PT_NOTE)
            continue;
        if (!ap_elf_inside(elf, segment.off, segment.file_sz))
            return -EBADMSG;
        if (segment.type != PT_NOTE)
            continue;
        len = segment.file_sz < sizeof(notes) ? segment.file_sz : sizeof(notes);
        rc = ap_elf_read(elf->fd, notes, len, segment.off);
        if (rc)
            return rc;
        find_build_id(notes, len, info);
    }
    return 0;
}

/* Sections are what the symbolizer follows, so all of them are checked. */
static int read_sections(const struct ap_elf *elf, struct ap_elf_info *info)
{
    struct ap_elf_block block = {0};
    struct ap_elf_section section;
    uint32_t i;
    int rc;

    for (i = 0; i < elf->sh_cnt; i++) {
        rc = ap_elf_section(elf, &block, i, &section);
        if (rc)
            return rc;
        if (section.type == SHT_NULL || section.type == SHT_NOBITS)
            continue;
        if (!ap_elf_inside(elf, section.off, section.sz))
            return -EBADMSG;
        if ((section.type == SHT_SYMTAB || section.type == SHT_DYNSYM) && section.sz)
            info->has_symbols = true;
    }
    return 0;
}

int ap_elf_inspect(int fd, struct ap_elf_info *ret_info)
{
    struct ap_elf_info info = {0};
    struct ap_elf elf = {0};
    int rc;

    rc = ap_elf_begin(fd, &elf);
    if (!rc)
        rc = read_notes(&elf, &info);
    if (!rc)
        rc = read_sections(&elf, &info);
    if (!rc)
        *ret_info = info;
    return rc;
}

int ap_elf_loads_of(const struct ap_elf *elf, struct ap_elf_loads *ret_loads)
{
    struct ap_elf_block block = {0};
    struct ap_elf_loads loads = {0};
    struct ap_elf_segment segment;
    uint32_t i;
    int rc;

    for (i = 0; i < elf->ph_cnt; i++) {
        rc = ap_elf_segment(elf, &block, i, &segment);
        if (rc)
            return rc;
        if (segment.type != PT_LOAD)
            continue;
        if (!ap_elf_inside(elf, segment.off, segment.file_sz) || segment.mem_sz < segment.file_sz ||
            segment.vaddr + segment.mem_sz < segment.vaddr)
            return -EBADMSG;
        if (loads.cnt == AP_ELF_LOADS_MAX)
            return -EFBIG;
        loads.items[loads.cnt++] = (struct ap_elf_load){
            segment.vaddr, segment.off, segment.file_sz, segment.mem_sz, segment.flags,
        };
    }
    *ret_loads = loads;
    return 0;
}

int ap_elf_loads(int fd, struct ap_elf_loads *ret_loads)
{
    struct ap_elf elf = {0};
    int rc;

    rc = ap_elf_begin(fd, &elf);
    return rc ? rc : ap_elf_loads_of(&elf, ret_loads);
}

int ap_elf_bias(const struct ap_elf_loads *loads, uint64_t map_start, uint64_t map_off, uint64_t *ret_bias)
{
    uint64_t page_sz = (uint64_t)sysconf(_SC_PAGESIZE), slack, bias;
    const struct ap_elf_load *load;
    uint32_t i;

    /* First as if segments began where their mappings do; then with the rest of the first page. */
    for (slack = 0; slack < page_sz; slack += page_sz - 1) {
        for (i = 0; i < loads->cnt; i++) {
            load = &loads->items[i];
            if (!(load->flags & PF_X) || map_off + slack < load->off || map_off >= load->off + load->file_sz)
                continue;
            bias = map_start - (load->vaddr + (map_off - load->off));
            if (bias % page_sz == 0) {
                *ret_bias = bias;
                return 0;
            }
        }
    }
    return -ENOENT;
}

bool ap_elf_covers(const struct ap_elf_loads *loads, uint64_t vaddr)
{
    uint32_t i;

    for (i = 0; i < loads->cnt; i++)
        if (vaddr - loads->items[i].vaddr < loads->items[i].mem_sz)
            return true;
    return false;
}

int ap_elf_code_vaddr(const struct ap_elf_loads *loads, uint64_t off, uint64_t *ret_vaddr)
{
    const struct ap_elf_load *load;
    uint32_t i;

    for (i = 0; i < loads->cnt; i++) {
        load = &loads->items[i];
        if ((load->flags & PF_X) && off - load->off < load->file_sz) {
            *ret_vaddr = load->vaddr + (off - load->off);
            return 0;
        }
    }
    return -ENOENT;
}

int ap_elf_file_off(const struct ap_elf_loads *loads, uint64_t vaddr, uint64_t *ret_off, uint64_t *ret_len)
{
    const struct ap_elf_load *load;
    uint32_t i;

    for (i = 0; i < loads->cnt; i++) {
        load = &loads->items[i];
        if (vaddr - load->vaddr < load->file_sz) {
            *ret_off = load->off + (vaddr - load->vaddr);
            *ret_len = load->file_sz - (vaddr - load->vaddr);
            return 0;
        }
    }
    return -ENOENT;
}
