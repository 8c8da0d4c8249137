/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/elf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA   ELFDATA2LSB
#define OTHER_DATA ELFDATA2MSB
#else
#define OUR_DATA   ELFDATA2MSB
#define OTHER_DATA ELFDATA2LSB
#endif

#define ID_SZ 20

struct note {
    Elf64_Nhdr head;
    char name[4];
    unsigned char desc[64];
};

/* A small file: header, two program headers, three sections and a note. */
struct file64 {
    Elf64_Ehdr head;
    Elf64_Phdr segments[2];
    Elf64_Shdr sections[3];
    struct note note;
};

struct file32 {
    Elf32_Ehdr head;
    Elf32_Phdr segments[2];
    Elf32_Shdr sections[3];
    struct note note;
};

static struct note build_id_note(size_t len)
{
    struct note note = {.head = {.n_namesz = 4, .n_descsz = (Elf64_Word)len, .n_type = NT_GNU_BUILD_ID}, .name = "GNU"};
    size_t i;

    for (i = 0; i < sizeof(note.desc); i++)
        note.desc[i] = (unsigned char)(i + 1);
    return note;
}

static struct file64 make64(void)
{
    struct file64 file = {
        .head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, OUR_DATA, EV_CURRENT},
                 .e_type = ET_DYN,
                 .e_phoff = offsetof(struct file64, segments),
                 .e_shoff = offsetof(struct file64, sections),
                 .e_phentsize = sizeof(Elf64_Phdr),
                 .e_phnum = 2,
                 .e_shentsize = sizeof(Elf64_Shdr),
                 .e_shnum = 3},
        .segments = {{.p_type = PT_LOAD, .p_filesz = sizeof(struct file64)},
                     {.p_type = PT_NOTE, .p_offset = offsetof(struct file64, note), .p_filesz = 16 + ID_SZ}},
        .sections = {{.sh_type = SHT_NULL, .sh_offset = UINT64_MAX, .sh_size = UINT64_MAX},
                     {.sh_type = SHT_NOBITS, .sh_offset = UINT64_MAX, .sh_size = 1 << 20},
                     {.sh_type = SHT_SYMTAB, .sh_offset = offsetof(struct file64, note), .sh_size = 24}},
        .note = build_id_note(ID_SZ),
    };

    return file;
}

static struct file32 make32(void)
{
    struct file32 file = {
        .head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, OUR_DATA, EV_CURRENT},
                 .e_type = ET_DYN,
                 .e_phoff = offsetof(struct file32, segments),
                 .e_shoff = offsetof(struct file32, sections),
                 .e_phentsize = sizeof(Elf32_Phdr),
                 .e_phnum = 2,
                 .e_shentsize = sizeof(Elf32_Shdr),
                 .e_shnum = 3},
        .segments = {{.p_type = PT_LOAD, .p_filesz = sizeof(struct file32)},
                     {.p_type = PT_NOTE, .p_offset = offsetof(struct file32, note), .p_filesz = 16 + ID_SZ}},
        .sections = {{.sh_type = SHT_NULL},
                     {.sh_type = SHT_NOBITS, .sh_offset = UINT32_MAX, .sh_size = 1 << 20},
                     {.sh_type = SHT_DYNSYM, .sh_offset = offsetof(struct file32, note), .sh_size = 16}},
        .note = build_id_note(ID_SZ),
    };

    return file;
}

static int file_of(const void *data, size_t len)
{
    int fd = memfd_create("elf", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    return fd;
}

/* Inspects `len` bytes; on failure nothing may be written. */
static int inspect(const void *data, size_t len, struct ap_elf_info *ret_info)
{
    struct ap_elf_info untouched;
    int fd = file_of(data, len), rc;

    memset(&untouched, 0x5a, sizeof(untouched));
    memset(ret_info, 0x5a, sizeof(*ret_info));
    rc = ap_elf_inspect(fd, ret_info);
    if (rc)
        assert_memory_equal(ret_info, &untouched, sizeof(untouched));
    assert_int_equal(lseek(fd, 0, SEEK_CUR), len); /* the position is the caller's */
    close(fd);
    return rc;
}

static void expect64(const struct file64 *file, int rc)
{
    struct ap_elf_info info;

    assert_int_equal(inspect(file, sizeof(*file), &info), rc);
}

/* Build id of the main program as it is loaded. */
static int loaded_build_id(struct dl_phdr_info *loaded, size_t size, void *ctx)
{
    struct note *ret_note = ctx;
    size_t i, off, len;

    (void)size;
    for (i = 0; i < loaded->dlpi_phnum; i++) {
        const char *notes = (const char *)(loaded->dlpi_addr + loaded->dlpi_phdr[i].p_vaddr);

        if (loaded->dlpi_phdr[i].p_type != PT_NOTE)
            continue;
        len = loaded->dlpi_phdr[i].p_memsz;
        for (off = 0; off + sizeof(Elf64_Nhdr) <= len;) {
            memcpy(&ret_note->head, notes + off, sizeof(ret_note->head));
            off += sizeof(ret_note->head);
            if (ret_note->head.n_type == NT_GNU_BUILD_ID && !strcmp(notes + off, "GNU")) {
                memcpy(ret_note->desc, notes + off + 4, ret_note->head.n_descsz);
                return 1;
            }
            off += (ret_note->head.n_namesz + 3u) / 4 * 4 + (ret_note->head.n_descsz + 3u) / 4 * 4;
        }
    }
    ret_note->head.n_descsz = 0;
    return 1; /* the first object is the program itself */
}

static void this_program(void **state)
{
    struct ap_elf_info info;
    struct note note = {0};
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ap_elf_inspect(fd, &info), 0);
    close(fd);
    assert_int_equal(dl_iterate_phdr(loaded_build_id, &note), 1);
    assert_int_equal(note.head.n_descsz, ID_SZ); /* the linker's SHA-1 */
    assert_int_equal(info.build_id_len, ID_SZ);
    assert_memory_equal(info.build_id, note.desc, ID_SZ);
    assert_true(info.has_symbols);
}

static void small_files(void **state)
{
    struct file64 big = make64();
    struct file32 small = make32();
    struct ap_elf_info info;

    (void)state;
    assert_int_equal(inspect(&big, sizeof(big), &info), 0);
    assert_int_equal(info.build_id_len, ID_SZ);
    assert_memory_equal(info.build_id, big.note.desc, ID_SZ);
    assert_true(info.has_symbols);
    assert_int_equal(inspect(&small, sizeof(small), &info), 0);
    assert_int_equal(info.build_id_len, ID_SZ);
    assert_memory_equal(info.build_id, small.note.desc, ID_SZ);
    assert_true(info.has_symbols);
}

static void cut_small_files(void **state)
{
    struct file64 big = make64();
    struct file32 small = make32();
    struct ap_elf_info info;
    size_t len;

    (void)state;
    for (len = 0; len < sizeof(big); len++)
        assert_int_equal(inspect(&big, len, &info), len < sizeof(Elf32_Ehdr) ? -ENOEXEC : -EBADMSG);
    for (len = 0; len < sizeof(small); len++)
        assert_int_equal(inspect(&small, len, &info), len < sizeof(Elf32_Ehdr) ? -ENOEXEC : -EBADMSG);
}

/* Where this program's file can be cut: around every header and everything a header names. */
static void cut_this_program(void **state)
{
    int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd, rc;
    const Elf64_Ehdr *head;
    const Elf64_Shdr *sections;
    struct ap_elf_info info;
    size_t edges[512], cnt = 0, i;
    struct stat st;
    char *data;

    (void)state;
    assert_true(in >= 0 && !fstat(in, &st));
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, in, 0);
    assert_true(data != MAP_FAILED);
    close(in);
    head = (const Elf64_Ehdr *)data;
    assert_int_equal(head->e_ident[EI_CLASS], ELFCLASS64);
    assert_true(head->e_shnum < 100 && head->e_shoff + head->e_shnum * sizeof(*sections) == (size_t)st.st_size);
    sections = (const Elf64_Shdr *)(data + head->e_shoff);
    for (i = 0; i < head->e_shnum; i++) {
        edges[cnt++] = sections[i].sh_offset;
        edges[cnt++] = head->e_shoff + i * sizeof(*sections);
    }
    edges[cnt++] = sizeof(*head);
    edges[cnt++] = (size_t)st.st_size;
    fd = file_of(data, (size_t)st.st_size);
    assert_int_equal(ap_elf_inspect(fd, &info), 0);
    for (i = 0; i < 3 * cnt; i++) {
        size_t len = edges[i / 3] + i % 3;

        if (len == 0 || len - 1 >= (size_t)st.st_size)
            continue;
        assert_int_equal(ftruncate(fd, (off_t)len - 1), 0);
        rc = ap_elf_inspect(fd, &info);
        assert_true(rc == -ENOEXEC || rc == -EBADMSG);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, data, (size_t)st.st_size, 0), st.st_size);
    }
    close(fd);
    munmap(data, (size_t)st.st_size);
}

static void other_files(void **state)
{
    static const char text[] = "#!/bin/sh\n# long enough for a header of either class, which it is not\nexit 0\n";
    struct file64 file = make64();
    struct ap_elf_info info;
    int ends[2];

    (void)state;
    assert_int_equal(inspect(text, sizeof(text), &info), -ENOEXEC);
    assert_int_equal(inspect("", 0, &info), -ENOEXEC);
    file.head.e_ident[EI_DATA] = OTHER_DATA;
    expect64(&file, -EOPNOTSUPP);
    file = make64();
    file.head.e_ident[EI_DATA] = 77;
    expect64(&file, -EOPNOTSUPP);
    file = make64();
    file.head.e_ident[EI_CLASS] = ELFCLASSNONE;
    expect64(&file, -EBADMSG);
    file.head.e_ident[EI_CLASS] = 3;
    expect64(&file, -EBADMSG);
    file = make64();
    file.head.e_ident[EI_MAG3] = 'f';
    expect64(&file, -ENOEXEC);
    assert_int_equal(ap_elf_inspect(-1, &info), -EBADF);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(ap_elf_inspect(ends[0], &info), -ENOEXEC);
    close(ends[0]);
    close(ends[1]);
}

static void tables_outside_the_file(void **state)
{
    static const uint64_t far[] = {
        sizeof(struct file64),   sizeof(struct file64) - 1, UINT64_MAX, UINT64_MAX - sizeof(Elf64_Phdr) + 1,
        (uint64_t)INT64_MAX + 1,
    };
    struct file64 file;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        file = make64();
        file.head.e_phoff = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.head.e_shoff = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.segments[0].p_offset = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.segments[1].p_offset = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.segments[1].p_filesz = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.sections[2].sh_offset = far[i];
        expect64(&file, -EBADMSG);
        file = make64();
        file.sections[2].sh_size = far[i] + 1 ? far[i] + 1 : UINT64_MAX;
        expect64(&file, -EBADMSG);
    }
    file = make64();
    file.head.e_phnum = PN_XNUM;
    expect64(&file, -EBADMSG);
    file = make64();
    file.head.e_shnum = 100;
    expect64(&file, -EBADMSG);
}

static void no_symbols(void **state)
{
    struct file64 file = make64();
    struct ap_elf_info info;

    (void)state;
    file.sections[2].sh_size = 0;
    assert_int_equal(inspect(&file, sizeof(file), &info), 0);
    assert_false(info.has_symbols);
    file = make64();
    file.sections[2].sh_type = SHT_PROGBITS;
    assert_int_equal(inspect(&file, sizeof(file), &info), 0);
    assert_false(info.has_symbols);
    file = make64();
    file.head.e_shnum = 0; /* sections stripped altogether */
    file.head.e_phnum = 0;
    assert_int_equal(inspect(&file, sizeof(file), &info), 0);
    assert_false(info.has_symbols);
    assert_int_equal(info.build_id_len, 0);
}

static size_t build_id_len(const struct file64 *file)
{
    struct ap_elf_info info;

    assert_int_equal(inspect(file, sizeof(*file), &info), 0);
    return info.build_id_len;
}

static void build_ids(void **state)
{
    struct file64 file = make64();
    struct ap_elf_info info;

    (void)state;
    file.note = build_id_note(8); /* lld: xxhash */
    assert_int_equal(build_id_len(&file), 8);
    file.note = build_id_note(32); /* SHA-256 is cut */
    file.segments[1].p_filesz = 16 + 32;
    assert_int_equal(build_id_len(&file), AP_BUILD_ID_MAX);
    file.note = build_id_note(0);
    assert_int_equal(build_id_len(&file), 0);
    file = make64();
    file.note.name[0] = 'g';
    assert_int_equal(build_id_len(&file), 0);
    file = make64();
    file.note.head.n_type = NT_GNU_ABI_TAG;
    assert_int_equal(build_id_len(&file), 0);
    file = make64();
    file.note.head.n_descsz = ID_SZ + 4; /* longer than the segment */
    assert_int_equal(build_id_len(&file), 0);
    file.note.head.n_descsz = UINT32_MAX;
    assert_int_equal(build_id_len(&file), 0);
    file = make64();
    file.note.head.n_namesz = UINT32_MAX;
    assert_int_equal(build_id_len(&file), 0);

    /* the second note of the segment: behind 8 bytes with a name of 3 */
    static const unsigned char other[] = {3, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 'x', 'y', 0, 0, 1, 2, 3, 4, 5, 6, 7, 0};
    struct note note = build_id_note(ID_SZ);
    char notes[sizeof(other) + 16 + ID_SZ];

    file = make64();
    memcpy(notes, other, sizeof(other));
    memcpy(notes + sizeof(other), &note, 16 + ID_SZ);
    memcpy(&file.note, notes, sizeof(notes));
    file.segments[1].p_filesz = sizeof(notes);
    assert_int_equal(inspect(&file, sizeof(file), &info), 0);
    assert_int_equal(info.build_id_len, ID_SZ);
    assert_memory_equal(info.build_id, note.desc, ID_SZ);
}

/* The most program headers there can be; the note's is the last. */
static void many_headers(void **state)
{
    const uint32_t cnt = PN_XNUM - 1;
    struct file64 file = make64();
    struct ap_elf_info info;
    int fd;

    (void)state;
    file.head.e_phoff = 4096;
    file.head.e_phnum = (Elf64_Half)cnt;
    fd = file_of(&file, sizeof(file));
    assert_int_equal(ftruncate(fd, (off_t)(4096 + (cnt - 1) * sizeof(Elf64_Phdr))), 0);
    assert_int_equal(ap_elf_inspect(fd, &info), -EBADMSG);
    assert_int_equal(pwrite(fd, &file.segments[1], sizeof(Elf64_Phdr), 4096 + (off_t)((cnt - 1) * sizeof(Elf64_Phdr))),
                     sizeof(Elf64_Phdr));
    explicit_bzero(&file, sizeof(file)); /* a walk past the end of a block must not meet the header here */
    assert_int_equal(ap_elf_inspect(fd, &info), 0);
    assert_int_equal(info.build_id_len, ID_SZ);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_program),     cmocka_unit_test(small_files), cmocka_unit_test(cut_small_files),
        cmocka_unit_test(cut_this_program), cmocka_unit_test(other_files), cmocka_unit_test(tables_outside_the_file),
        cmocka_unit_test(no_symbols),       cmocka_unit_test(build_ids),   cmocka_unit_test(many_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
