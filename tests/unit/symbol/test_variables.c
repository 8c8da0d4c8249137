/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/variables.h"

#include "symbol/elf.h"

#include "elf_image.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>

/* Objects of this program. */
extern int variables_global[10];
int variables_global[10] = {1};
static int variables_static[3] = {2};
static char variables_bss[100];
static __thread int variables_thread = 4;
extern int variables_global_too[10] __attribute__((alias("variables_global")));

static void touch(void)
{
    variables_static[1]++;
    variables_bss[1]++;
    variables_thread++;
}

/* Executable mapping of this process that contains the address. */
static void mapping_of(const void *addr, uint64_t *ret_start, uint64_t *ret_off, char *ret_path)
{
    unsigned long start, end, off;
    char line[512], modes[8];
    FILE *file = fopen("/proc/self/maps", "re");

    assert_non_null(file);
    for (;;) {
        assert_non_null(fgets(line, sizeof(line), file));
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &start, &end, modes, &off, ret_path) == 5 &&
            modes[2] == 'x' && (uintptr_t)addr >= start && (uintptr_t)addr < end)
            break;
    }
    fclose(file);
    *ret_start = start;
    *ret_off = off;
}

/* The file with the code at `code`, opened, and how far it was moved. */
static int open_module(const void *code, struct ap_elf_loads *ret_loads, uint64_t *ret_bias)
{
    uint64_t start, off;
    char path[256];
    int fd;

    mapping_of(code, &start, &off, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ap_elf_loads(fd, ret_loads), 0);
    assert_true(ret_loads->cnt >= 2);
    assert_int_equal(ap_elf_bias(ret_loads, start, off, ret_bias), 0);
    return fd;
}

static void this_program(void **state)
{
    struct ap_variable found[6];
    struct ap_elf_loads loads;
    uint64_t bias, vaddrs[6];
    int fd = open_module((const void *)(uintptr_t)touch, &loads, &bias);

    (void)state;
    touch();
    vaddrs[0] = (uintptr_t)&variables_bss[99] - bias; /* in no order */
    vaddrs[1] = (uintptr_t)&variables_static[1] - bias;
    vaddrs[2] = (uintptr_t)&variables_global[9] + 3 - bias;
    vaddrs[3] = (uintptr_t)touch - bias; /* a function */
    vaddrs[4] = vaddrs[1];
    vaddrs[5] = 1;
    assert_true(ap_elf_covers(&loads, vaddrs[0]) && ap_elf_covers(&loads, vaddrs[1]));
    assert_false(ap_elf_covers(&loads, UINT64_MAX));
    assert_int_equal(ap_variables_find(fd, vaddrs, 6, found), 4);
    assert_string_equal(found[0].name, "variables_bss");
    assert_int_equal(found[0].off, 99);
    assert_string_equal(found[1].name, "variables_static");
    assert_int_equal(found[1].off, sizeof(int));
    assert_true(!strcmp(found[2].name, "variables_global") || !strcmp(found[2].name, "variables_global_too"));
    assert_int_equal(found[2].off, 9 * sizeof(int) + 3);
    assert_string_equal(found[3].name, "");
    assert_string_equal(found[4].name, "variables_static");
    assert_string_equal(found[5].name, "");
    assert_int_equal(ap_variables_find(fd, vaddrs, 0, found), 0);
    assert_int_equal(ap_variables_find(fd, vaddrs, AP_VARIABLE_ADDRS_MAX + 1, found), -EFBIG);
    close(fd);
}

/* A stripped library: what it exports. */
static void libc_itself(void **state)
{
    struct ap_variable found;
    struct ap_elf_loads loads;
    uint64_t bias, vaddr;
    int fd = open_module((const void *)(uintptr_t)gnu_get_libc_version, &loads, &bias);

    (void)state;
    vaddr = (uintptr_t)stdout - bias + 8;
    assert_true(ap_elf_covers(&loads, vaddr));
    assert_int_equal(ap_variables_find(fd, &vaddr, 1, &found), 1);
    assert_string_equal(found.name, "_IO_2_1_stdout_");
    assert_int_equal(found.off, 8);
    close(fd);
}

/* Small files ------------------------------------------------------------------------------------------------------ */

struct small {
    Elf64_Ehdr head;
    Elf64_Shdr sections[5]; /* null, .symtab, .strtab, .dynsym, .dynstr */
    Elf64_Sym symbols[16], dynamic[4];
    char names[1024];
};

static struct small small;
static size_t symbol_cnt, dynamic_cnt, names_sz;

static uint32_t add_name(const char *name)
{
    size_t at = names_sz;

    names_sz += strlen(name) + 1;
    assert_true(names_sz <= sizeof(small.names));
    memcpy(small.names + at, name, strlen(name));
    return (uint32_t)at;
}

static void add(const char *name, int binding, int type, uint64_t start, uint64_t sz)
{
    assert_true(symbol_cnt < sizeof(small.symbols) / sizeof(small.symbols[0]));
    small.symbols[symbol_cnt++] = (Elf64_Sym){.st_name = add_name(name),
                                              .st_info = (unsigned char)ELF64_ST_INFO(binding, type),
                                              .st_shndx = 1,
                                              .st_value = start,
                                              .st_size = sz};
}

static void small_begin(void)
{
    memset(&small, 0, sizeof(small));
    symbol_cnt = dynamic_cnt = names_sz = 1;
    small.head = (Elf64_Ehdr){.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                              .e_shoff = offsetof(struct small, sections),
                              .e_shnum = 5};
    small.sections[1] = (Elf64_Shdr){.sh_type = SHT_SYMTAB,
                                     .sh_offset = offsetof(struct small, symbols),
                                     .sh_size = sizeof(small.symbols),
                                     .sh_link = 2};
    small.sections[2] =
        (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = offsetof(struct small, names), .sh_size = sizeof(small.names)};
    small.sections[3] = (Elf64_Shdr){.sh_type = SHT_DYNSYM,
                                     .sh_offset = offsetof(struct small, dynamic),
                                     .sh_size = sizeof(small.dynamic),
                                     .sh_link = 4};
    small.sections[4] = small.sections[2];
}

/* Name at the address, "" for none; or what the call failed with. */
static int find(uint64_t vaddr, struct ap_variable *ret_variable)
{
    int fd = image_fd(&small, sizeof(small)), rc;

    memset(ret_variable, 0x5a, sizeof(*ret_variable));
    rc = ap_variables_find(fd, &vaddr, 1, ret_variable);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), sizeof(small));
    close(fd);
    return rc;
}

static void expect(uint64_t vaddr, const char *name, uint64_t off)
{
    struct ap_variable variable;

    assert_int_equal(find(vaddr, &variable), name[0] ? 1 : 0);
    assert_string_equal(variable.name, name);
    assert_int_equal(variable.off, off);
}

static void symbols(void **state)
{
    char longer[400];

    (void)state;
    small_begin();
    add("plain", STB_GLOBAL, STT_OBJECT, 1000, 100);
    add("inner", STB_LOCAL, STT_OBJECT, 1010, 8);
    add("point", STB_LOCAL, STT_OBJECT, 1200, 0);
    add("function", STB_GLOBAL, STT_FUNC, 1300, 100);
    add("thread", STB_GLOBAL, STT_TLS, 1400, 100);
    add("elsewhere", STB_GLOBAL, STT_OBJECT, 1500, 100);
    small.symbols[symbol_cnt - 1].st_shndx = SHN_UNDEF;
    add("hidden", STB_LOCAL, STT_OBJECT, 1600, 8);
    add("weak", STB_WEAK, STT_OBJECT, 1600, 8);
    add("strong", STB_GLOBAL, STT_OBJECT, 1600, 8);
    add("strong_too", STB_GLOBAL, STT_OBJECT, 1600, 8);
    add("last@@V1", STB_GLOBAL, STT_OBJECT, UINT64_MAX - 7, 100); /* wraps */
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    add(longer, STB_GLOBAL, STT_OBJECT, 2000, 8);
    add("outside", STB_GLOBAL, STT_OBJECT, 2100, 8);
    small.symbols[symbol_cnt - 1].st_name = sizeof(small.names);
    small.dynamic[1] = (Elf64_Sym){.st_name = add_name("exported"),
                                   .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
                                   .st_shndx = 1,
                                   .st_value = 3000,
                                   .st_size = 8};
    small.dynamic[2] = small.dynamic[1];
    small.dynamic[2].st_value = 1000; /* what .symtab has is not asked here */
    expect(999, "", 0);
    expect(1000, "plain", 0);
    expect(1009, "plain", 9);
    expect(1010, "inner", 0);
    expect(1017, "inner", 7);
    expect(1018, "plain", 18);
    expect(1099, "plain", 99);
    expect(1100, "", 0);
    expect(1200, "point", 0);
    expect(1201, "", 0);
    expect(1300, "", 0);
    expect(1400, "", 0);
    expect(1500, "", 0);
    expect(1603, "strong", 3);
    expect(UINT64_MAX, "last", 7);
    expect(0, "", 0);
    longer[AP_VARIABLE_NAME_SZ - 1] = '\0';
    expect(2000, longer, 0);
    expect(2100, "", 0);
    expect(3001, "exported", 1);
    /* the same without .symtab */
    small.sections[1].sh_type = SHT_PROGBITS;
    expect(1000, "exported", 0);
    expect(1603, "", 0);
}

static void hostile_symbols(void **state)
{
    struct ap_variable variable;
    int fd = image_fd("text", 4);
    uint64_t vaddr = 1000;

    (void)state;
    assert_int_equal(ap_variables_find(fd, &vaddr, 1, &variable), -ENOEXEC);
    close(fd);
    assert_int_equal(ap_variables_find(-1, &vaddr, 1, &variable), -EBADF);
    small_begin();
    add("plain", STB_GLOBAL, STT_OBJECT, 1000, 100);
    expect(1000, "plain", 0);
    small.sections[1].sh_link = 5;
    assert_int_equal(find(1000, &variable), -EBADMSG);
    small.sections[1].sh_link = 1;
    assert_int_equal(find(1000, &variable), -EBADMSG);
    small.sections[1].sh_link = 2;
    small.sections[2].sh_offset = UINT64_MAX;
    assert_int_equal(find(1000, &variable), -EBADMSG);
    small.sections[2].sh_offset = offsetof(struct small, names);
    small.sections[2].sh_size = 3; /* the name is cut */
    expect(1000, "pl", 0);
    small.sections[2].sh_size = 1;
    expect(1000, "", 0);
    small.sections[1].sh_offset = sizeof(small) - 1;
    assert_int_equal(find(1000, &variable), -EBADMSG);
    small.sections[1].sh_offset = offsetof(struct small, symbols);
    small.sections[1].sh_size = sizeof(Elf64_Sym) - 1; /* less than one */
    expect(1000, "", 0);
    small.sections[1].sh_size = 0;
    small.sections[3].sh_size = 0;
    assert_int_equal(find(1000, &variable), -ENODATA);
    small.head.e_shnum = 0;
    assert_int_equal(find(1000, &variable), -ENODATA);
    assert_int_equal(variable.name[0], 0x5a); /* untouched */
}

/* Objects that all lie on top of each other. */
static void too_many_hits(void **state)
{
    const uint32_t addr_cnt = AP_VARIABLE_ADDRS_MAX, cnt = AP_VARIABLE_HITS_MAX / AP_VARIABLE_ADDRS_MAX + 1;
    Elf64_Sym everywhere = {
        .st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_shndx = 1, .st_size = UINT64_MAX};
    uint64_t *vaddrs = calloc(addr_cnt, sizeof(*vaddrs));
    struct ap_variable *variables = calloc(addr_cnt, sizeof(*variables));
    uint32_t i;
    int fd;

    (void)state;
    assert_true(vaddrs && variables);
    small_begin();
    memcpy(small.names, "\0x", 3);
    small.sections[1].sh_offset = sizeof(small);
    small.sections[1].sh_size = cnt * sizeof(everywhere);
    fd = image_fd(&small, sizeof(small));
    for (i = 0; i < cnt; i++)
        assert_int_equal(write(fd, &everywhere, sizeof(everywhere)), sizeof(everywhere));
    for (i = 0; i < addr_cnt; i++)
        vaddrs[i] = i;
    assert_int_equal(ap_variables_find(fd, vaddrs, addr_cnt, variables), -EFBIG);
    assert_int_equal(ap_variables_find(fd, vaddrs, addr_cnt - addr_cnt / 16, variables), addr_cnt - addr_cnt / 16);
    assert_string_equal(variables[77].name, "x");
    assert_int_equal(variables[77].off, 77);
    close(fd);
    free(vaddrs);
    free(variables);
}

static void class_32(void **state)
{
    struct {
        Elf32_Ehdr head;
        Elf32_Shdr sections[3];
        Elf32_Sym symbols[2];
        char names[8];
    } file = {.head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                       .e_shoff = sizeof(Elf32_Ehdr),
                       .e_shnum = 3},
              .names = "\0lock"};
    uint64_t vaddr = 0x8004;
    struct ap_variable variable;
    int fd;

    (void)state;
    file.sections[1] = (Elf32_Shdr){.sh_type = SHT_SYMTAB,
                                    .sh_offset = sizeof(file.head) + sizeof(file.sections),
                                    .sh_size = sizeof(file.symbols),
                                    .sh_link = 2};
    file.sections[2] = (Elf32_Shdr){
        .sh_type = SHT_STRTAB, .sh_offset = sizeof(file) - sizeof(file.names), .sh_size = sizeof(file.names)};
    file.symbols[1] = (Elf32_Sym){.st_name = 1,
                                  .st_value = 0x8000,
                                  .st_size = 24,
                                  .st_info = ELF32_ST_INFO(STB_LOCAL, STT_OBJECT),
                                  .st_shndx = 1};
    fd = image_fd(&file, sizeof(file));
    assert_int_equal(ap_variables_find(fd, &vaddr, 1, &variable), 1);
    assert_string_equal(variable.name, "lock");
    assert_int_equal(variable.off, 4);
    close(fd);
}

/* Segments --------------------------------------------------------------------------------------------------------- */

static void biases(void **state)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), far = (uint64_t)1 << 40;
    struct ap_elf_loads loads = {
        .cnt = 4,
        .items = {
            {0, 0, page - 100, page - 100, PF_R},
            {2 * page - 100, page - 100, 2 * page, 2 * page, PF_R | PF_X}, /* begins inside a page of the file */
            {8 * page + 50, 3 * page - 100 + 150, 3 * page, 3 * page, PF_R | PF_X},
            {20 * page, 7 * page, 100, 5 * page, PF_R | PF_W},
        }};
    uint64_t bias, off, len, vaddr;

    (void)state;
    assert_int_equal(ap_elf_bias(&loads, far + page, 0, &bias), 0);
    assert_int_equal(bias, far);
    assert_int_equal(ap_elf_bias(&loads, far + 3 * page, 2 * page, &bias), 0); /* a mapping of its second part */
    assert_int_equal(bias, far);
    assert_int_equal(ap_elf_bias(&loads, far + 9 * page, 4 * page, &bias), 0);
    assert_int_equal(bias, far);
    assert_int_equal(ap_elf_bias(&loads, far + 3 * page, 9 * page, &bias), -ENOENT);
    assert_int_equal(ap_elf_bias(&loads, far + 20 * page, 7 * page, &bias), -ENOENT); /* no code */
    assert_true(ap_elf_covers(&loads, 25 * page - 1));
    assert_false(ap_elf_covers(&loads, 25 * page));
    assert_false(ap_elf_covers(&loads, 6 * page));
    assert_int_equal(ap_elf_file_off(&loads, 20 * page + 10, &off, &len), 0);
    assert_int_equal(off, 7 * page + 10);
    assert_int_equal(len, 90);
    assert_int_equal(ap_elf_file_off(&loads, 20 * page + 100, &off, &len), -ENOENT); /* .bss */
    assert_int_equal(ap_elf_code_vaddr(&loads, page, &vaddr), 0);
    assert_int_equal(vaddr, 2 * page);
    assert_int_equal(ap_elf_code_vaddr(&loads, 0, &vaddr), -ENOENT);
    assert_int_equal(ap_elf_code_vaddr(&loads, 7 * page, &vaddr), -ENOENT);
}

static void segments(void **state)
{
    struct image image;
    struct ap_elf_loads loads;
    Elf64_Ehdr *head = (Elf64_Ehdr *)image.data;
    Elf64_Phdr *segment = (Elf64_Phdr *)(image.data + sizeof(*head));
    size_t i;
    int fd, pass;

    (void)state;
    image_begin(&image);
    for (i = 0; i < AP_ELF_LOADS_MAX + 1; i++)
        segment[i] = segment[0];
    for (pass = 0; pass < 5; pass++) {
        head->e_phnum = AP_ELF_LOADS_MAX + (pass == 1);
        segment[1].p_vaddr = pass == 2 ? UINT64_MAX - 100 : IMAGE_VADDR;
        segment[1].p_memsz = pass == 3 ? IMAGE_SZ - 1 : IMAGE_SZ;
        segment[1].p_offset = pass == 4 ? 1 : 0;
        fd = image_fd(image.data, sizeof(image.data));
        loads.cnt = 77;
        assert_int_equal(ap_elf_loads(fd, &loads), pass == 0 ? 0 : pass == 1 ? -EFBIG : -EBADMSG);
        assert_int_equal(loads.cnt, pass == 0 ? AP_ELF_LOADS_MAX : 77);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_program),    cmocka_unit_test(libc_itself),   cmocka_unit_test(symbols),
        cmocka_unit_test(hostile_symbols), cmocka_unit_test(too_many_hits), cmocka_unit_test(class_32),
        cmocka_unit_test(biases),          cmocka_unit_test(segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
