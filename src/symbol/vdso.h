/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef APERTURE_SYMBOL_VDSO_H
#define APERTURE_SYMBOL_VDSO_H

/* Largest vDSO image believed; the kernel's are two to four pages. */
#define AP_VDSO_SZ_MAX (1u << 20)

/* An anonymous file (memfd) with the vDSO image that the kernel maps into this process, to be read like any
 * ELF file. The caller closes it. Descriptor, -ENOENT when there is none, or negative errno. */
int ap_vdso_open(void);

#endif
