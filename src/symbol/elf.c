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

/* The header's tables, the same for both classes. */
struct tables {
    uint64_t ph_off, sh_off;
    uint32_t ph_cnt, sh_cnt;
    size_t ph_sz, sh_sz;
    bool is64;
};

/* Some headers of a table, read together. */
struct header_block {
    bool valid;
    uint32_t first; /* index of the first one in `data` */
    char data[4096];
};

static int read_at(int fd, void *buf, size_t len, uint64_t off)
{
    char *pos = buf;
    ssize_t n;

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

static bool inside(uint64_t off, uint64_t len, uint64_t file_sz)
{
    return off <= file_sz && len <= file_sz - off;
}

static int read_tables(int fd, uint64_t file_sz, struct tables *ret_tables)
{
    union {
        unsigned char ident[EI_NIDENT];
        Elf32_Ehdr h32;
        Elf64_Ehdr h64;
    } head = {0};
    struct tables *t = ret_tables;
    int rc;

    if (file_sz < sizeof(head.h32))
        return -ENOEXEC;
    rc = read_at(fd, &head, file_sz < sizeof(head) ? sizeof(head.h32) : sizeof(head), 0);
    if (rc)
        return rc;
    if (memcmp(head.ident, ELFMAG, SELFMAG))
        return -ENOEXEC;
    if (head.ident[EI_DATA] != OUR_DATA)
        return -EOPNOTSUPP;
    if (head.ident[EI_CLASS] == ELFCLASS64 && file_sz >= sizeof(head.h64))
        *t = (struct tables){head.h64.e_phoff,
                             head.h64.e_shoff,
                             head.h64.e_phnum,
                             head.h64.e_shnum,
                             sizeof(Elf64_Phdr),
                             sizeof(Elf64_Shdr),
                             true};
    else if (head.ident[EI_CLASS] == ELFCLASS32)
        *t = (struct tables){head.h32.e_phoff,
                             head.h32.e_shoff,
                             head.h32.e_phnum,
                             head.h32.e_shnum,
                             sizeof(Elf32_Phdr),
                             sizeof(Elf32_Shdr),
                             false};
    else
        return -EBADMSG;
    if (t->ph_cnt >= AP_ELF_HEADERS_MAX || !inside(t->ph_off, t->ph_cnt * t->ph_sz, file_sz) ||
        !inside(t->sh_off, t->sh_cnt * t->sh_sz, file_sz))
        return -EBADMSG;
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

/* Reads header `i` of a table of `cnt` headers of `size` bytes, a block of them at a time. */
static int read_header(int fd, struct header_block *block, uint64_t table_off, uint32_t cnt, size_t size, uint32_t i,
                       void *ret_header)
{
    uint32_t per_block = (uint32_t)(sizeof(block->data) / size);
    uint32_t first = i - i % per_block, in_block = cnt - first < per_block ? cnt - first : per_block;
    int rc;

    if (!block->valid || block->first != first) {
        block->valid = false;
        rc = read_at(fd, block->data, in_block * size, table_off + (uint64_t)first * size);
        if (rc)
            return rc;
        block->valid = true;
        block->first = first;
    }
    memcpy(ret_header, block->data + (i - first) * size, size);
    return 0;
}

static int read_notes(int fd, const struct tables *t, uint64_t file_sz, struct ap_elf_info *info)
{
    struct header_block block = {0};
    char notes[AP_ELF_NOTE_SZ_MAX];
    uint64_t off, len;
    uint32_t i, type;
    Elf32_Phdr p32;
    Elf64_Phdr p64;
    int rc;

    for (i = 0; i < t->ph_cnt && !info->build_id_len; i++) {
        rc = read_header(fd, &block, t->ph_off, t->ph_cnt, t->ph_sz, i, t->is64 ? (void *)&p64 : (void *)&p32);
        if (rc)
            return rc;
        type = t->is64 ? p64.p_type : p32.p_type;
        off = t->is64 ? p64.p_offset : p32.p_offset;
        len = t->is64 ? p64.p_filesz : p32.p_filesz;
        if ((type == PT_LOAD || type == PT_NOTE) && !inside(off, len, file_sz))
            return -EBADMSG;
        if (type != PT_NOTE)
            continue;
        len = len < sizeof(notes) ? len : sizeof(notes);
        rc = read_at(fd, notes, len, off);
        if (rc)
            return rc;
        find_build_id(notes, len, info);
    }
    return 0;
}

/* Sections are what the symbolizer follows, so all of them are checked. */
static int read_sections(int fd, const struct tables *t, uint64_t file_sz, struct ap_elf_info *info)
{
    struct header_block block = {0};
    uint64_t off, len;
    Elf32_Shdr s32;
    Elf64_Shdr s64;
    uint32_t i, type;
    int rc;

    for (i = 0; i < t->sh_cnt; i++) {
        rc = read_header(fd, &block, t->sh_off, t->sh_cnt, t->sh_sz, i, t->is64 ? (void *)&s64 : (void *)&s32);
        if (rc)
            return rc;
        type = t->is64 ? s64.sh_type : s32.sh_type;
        off = t->is64 ? s64.sh_offset : s32.sh_offset;
        len = t->is64 ? s64.sh_size : s32.sh_size;
        if (type == SHT_NULL || type == SHT_NOBITS)
            continue;
        if (!inside(off, len, file_sz))
            return -EBADMSG;
        if ((type == SHT_SYMTAB || type == SHT_DYNSYM) && len)
            info->has_symbols = true;
    }
    return 0;
}

int ap_elf_inspect(int fd, struct ap_elf_info *ret_info)
{
    struct ap_elf_info info = {0};
    struct tables tables;
    struct stat st;
    int rc;

    if (fstat(fd, &st))
        return -errno;
    rc = read_tables(fd, (uint64_t)st.st_size, &tables);
    if (!rc)
        rc = read_notes(fd, &tables, (uint64_t)st.st_size, &info);
    if (!rc)
        rc = read_sections(fd, &tables, (uint64_t)st.st_size, &info);
    if (!rc)
        *ret_info = info;
    return rc;
}
