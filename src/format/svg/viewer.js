/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Viewer of an Aperture flamegraph. Replaces the static picture by an application that draws from the data block.
 * Names of functions come from the profiled host and are hostile: they are only ever set as text, never as markup. */
(function () {
'use strict';

const SVG = 'http://www.w3.org/2000/svg', HTML = 'http://www.w3.org/1999/xhtml';
const script = document.currentScript;
const root = (script && script.ownerSVGElement) || document.documentElement;
const ROW = 18, MIN_PX = 0.3, BOX_PX = 1.5, ITEM_PX = 5, LABEL_PX = 22, OVERSCAN = 12;
const KIND = {unknown: 0, process: 6, mark: 7, waker: 8};
const KINDS = ['unresolved', 'native', 'kernel', 'jit', 'interpreted', 'gpu', 'thread', 'mark', 'waker'];
const LEGEND = [1, 2, 3, 4, 5, 0, 8, 7];

/* ---- elements ---- */

function make(ns, tag, attrs, children) {
    const node = document.createElementNS(ns, tag);
    for (const key in attrs || {}) {
        if (key === 'on')
            for (const type in attrs.on) node.addEventListener(type, attrs.on[type]);
        else if (attrs[key] !== null && attrs[key] !== undefined)
            node.setAttribute(key, attrs[key]);
    }
    for (const child of [].concat(children === undefined ? [] : children))
        if (child !== null) node.append(child); /* strings become text nodes */
    return node;
}
const h = (tag, attrs, children) => make(HTML, tag, attrs, children);
const s = (tag, attrs, children) => make(SVG, tag, attrs, children);
const byId = (id) => root.querySelector('#' + id);
const textOf = (id) => { const node = byId(id); return node ? node.textContent : ''; };
/* Lines of the picture that the page repeats; the picture itself is removed. */
const lines = Object.fromEntries(['title', 'sub', 'account', 'unresolved', 'foot', 'empty', 'empty-why'].map(
    (name) => [name, textOf('ap-' + name)]));

function icon(path) {
    return s('svg', {viewBox: '0 0 16 16', 'aria-hidden': 'true'}, s('path', {d: path}));
}
const ICONS = {
    up: 'M4 10l4-4 4 4', down: 'M4 6l4 4 4-4', close: 'M4 4l8 8M12 4l-8 8',
    flip: 'M5 2v11M2.5 10.5L5 13l2.5-2.5M11 14V3M8.5 5.5L11 3l2.5 2.5',
    theme: 'M13.5 9.6A6 6 0 1 1 6.4 2.5a4.8 4.8 0 0 0 7.1 7.1z',
    reset: 'M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10',
};

/* ---- data ---- */

function column(id, Type, n) {
    const node = byId(id);
    const list = node ? JSON.parse(node.textContent) : null;
    return list ? Type.from(list) : new Type(n);
}

/* Nodes are in preorder, so a subtree is the range [i, end[i]) and each row of the chart is ordered by `start`. */
function load() {
    const info = JSON.parse(textOf('ap-info'));
    const depth = column('ap-depth', Uint16Array, 1), n = depth.length;
    const d = {info, depth, n, frame: column('ap-frame', Uint32Array, n), selfCount: column('ap-count', Float64Array, n)};
    d.self = info.period ? d.selfCount.map((c) => c * info.period) : column('ap-value', Float64Array, n);
    if (info.by_count) d.self = d.selfCount;
    d.count = d.selfCount.slice();
    d.total = d.self.slice();
    d.parent = new Uint32Array(n);
    d.end = new Uint32Array(n);
    d.start = new Float64Array(n);
    const path = [0];
    let rows = 1;
    for (let i = 1; i < n; i++) {
        d.parent[i] = path[depth[i] - 1];
        path[depth[i]] = i;
        rows = Math.max(rows, depth[i] + 1);
    }
    d.end[0] = n;
    for (let i = n - 1; i > 0; i--) {
        const p = d.parent[i];
        d.end[i] = Math.max(d.end[i], i + 1);
        d.end[p] = Math.max(d.end[p], d.end[i]);
        d.count[p] += d.count[i];
        d.total[p] += d.total[i];
    }
    const cursor = new Float64Array(n);
    for (let i = 1; i < n; i++) {
        const p = d.parent[i];
        d.start[i] = cursor[i] = cursor[p];
        cursor[p] += d.total[i];
    }
    d.levels = Array.from({length: rows}, () => []);
    for (let i = 0; i < n; i++) d.levels[depth[i]].push(i);
    d.frames = info.frames.map((f) => ({name: info.strings[f[0]], module: info.strings[f[1]], file: info.strings[f[2]],
        line: f[3], kind: f[4], inlined: !!(f[5] & 1), waker: !!(f[5] & 2), shade: f[6], key: f[0] + ',' + f[1] + ',' + f[4]}));
    return d;
}

const data = load();
const whole = data.total[0];
const frameOf = (i) => data.frames[data.frame[i]];
const baseName = (path) => path.slice(path.lastIndexOf('/') + 1) || path;

const isCode = (f) => f.kind < KIND.process || f.kind === KIND.waker;

function colourClass(i) {
    const f = frameOf(i);
    if (i === 0) return 'kr';
    if (!isCode(f)) return f.kind === KIND.mark ? 'km' : 'kp';
    return 'k' + f.kind + 's' + f.shade;
}

/* ---- words ---- */

const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
const unitName = data.info.unit;
const samples = (n) => grouped(n) + ' ' + unitName + (n === 1 ? '' : 's');

function percent(part, all) {
    const p = all ? 100 * part / all : 0;
    if (part && p < 0.01) return '<0.01 %';
    return p.toFixed(p < 10 && part ? 2 : 1) + ' %';
}

function time(ns) {
    const two = (x) => String(x).padStart(2, '0'), seconds = Math.round(ns / 1e9);
    if (seconds >= 86400) return grouped(Math.floor(seconds / 86400)) + 'd' + two(Math.floor(seconds / 3600) % 24) + 'h';
    if (seconds >= 3600) return grouped(Math.floor(seconds / 3600)) + 'h' + two(Math.floor(seconds / 60) % 60) + 'm';
    if (seconds >= 60) return Math.floor(seconds / 60) + 'm' + two(seconds % 60) + 's';
    for (const [size, name] of [[1e9, 's'], [1e6, 'ms'], [1e3, 'us']])
        if (ns >= size) return (ns / size).toFixed(ns >= 100 * size ? 0 : ns >= 10 * size ? 1 : 2) + ' ' + name;
    return ns + ' ns';
}

function place(f) {
    return f.file ? f.file + (f.line ? ':' + f.line : '') : '';
}
const kindName = (f, i) => (i === 0 ? 'everything' : KINDS[f.kind] + (f.inlined ? ', inlined' : ''));

/* ---- state ---- */

const state = {
    zoom: 0, rows: data.levels.length, selected: 0, hover: -1, flip: false, query: '', regex: false,
    view: [0, whole], /* what is on screen; between two views while it moves */
    trail: [], match: null, matches: [], at: -1, drawn: null, timer: 0, frame: 0, typing: 0, keys: false,
};
const reduced = window.matchMedia('(prefers-reduced-motion: reduce)');
const darkScheme = window.matchMedia('(prefers-color-scheme: dark)');
const ui = {};

const inside = (i, top) => i >= top && i < data.end[top];
const rowsOf = (top) => {
    let deepest = data.depth[top];
    for (let i = top; i < data.end[top]; i++) if (data.depth[i] > deepest) deepest = data.depth[i];
    return deepest + 1;
};

/* ---- drawing ---- */

/* First position in a row whose node ends right of `x`. */
function firstAt(row, x) {
    let low = 0, high = row.length;
    while (low < high) {
        const mid = (low + high) >> 1, i = row[mid];
        if (data.start[i] + data.total[i] > x) high = mid;
        else low = mid + 1;
    }
    return low;
}

function chartSize() {
    const width = Math.max(80, ui.chart.clientWidth - 2 * (parseFloat(getComputedStyle(ui.chart).paddingLeft) || 0));
    const room = ui.chart.clientHeight - 16;
    const rows = state.rows;
    return {width, rows, height: state.flip ? Math.max(rows * ROW, Math.floor(room)) : rows * ROW};
}

const rowTop = (size, depth) => (state.flip ? size.height - (depth + 1) * ROW : depth * ROW);

function cutLabel(name, px, cell) {
    const fit = Math.floor((px - 7) / cell);
    if (name.length <= fit && !/[^\x20-\x7e]/.test(name)) return name;
    let used = 0, out = '', kept = '';
    for (const c of name) {
        const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/.test(c) ||
            c.codePointAt(0) >= 0x1f300 ? 2 : 1;
        if (used + wide > fit) return fit < 1 ? '' : kept + '…';
        used += wide;
        out += c;
        if (used < fit) kept = out;
    }
    return out;
}

function nodeState(i) {
    const hit = state.match && state.match[data.frame[i]];
    return (hit ? ' hit' : state.match ? ' dim' : '') + (i < state.zoom && data.end[i] > state.zoom ? ' anc' : '');
}

function drawBox(i, x, width, y, size) {
    const f = frameOf(i), shown = Math.max(0.8, width > 3 ? width - 0.8 : width);
    const inset = (f.inlined || f.kind === KIND.waker) && shown > 3 ? 0.5 : 0;
    const plain = isCode(f) ? '' : ' plain';
    const rect = s('rect', {class: colourClass(i) + (f.inlined && inset ? ' inl' : ''), x: (x + inset).toFixed(2), y: y + inset,
        width: (shown - 2 * inset).toFixed(2), height: ROW - 1 - 2 * inset});
    const box = s('g', {class: 'f' + plain + nodeState(i), id: 'apn' + i, 'data-n': i}, rect);
    if (width >= ITEM_PX) {
        box.setAttribute('role', 'treeitem');
        box.setAttribute('aria-level', data.depth[i] + 1);
        box.setAttribute('aria-label', f.name.slice(0, 300) + ', ' + percent(data.total[i], whole));
        if (i === state.selected) box.setAttribute('aria-selected', 'true');
    }
    if (width >= LABEL_PX) {
        const label = s('text', {x: (x + 4).toFixed(2), y: y + 13});
        label.textContent = cutLabel(f.name, width, size.cell);
        box.append(label);
    }
    return box;
}

/* Draws one row between the edges of the view. A run of slivers becomes one mark that covers them and is skipped by
 * binary search, so the cost follows the pixels on screen and not the nodes. */
function drawRow(depth, size, into, slivers) {
    const row = data.levels[depth], [left, right] = state.view, scale = size.width / (right - left);
    const y = rowTop(size, depth);
    for (let k = firstAt(row, left); k < row.length && data.start[row[k]] < right;) {
        const i = row[k];
        const from = Math.max(0, (data.start[i] - left) * scale);
        const to = Math.min(size.width, (data.start[i] + data.total[i] - left) * scale);
        if (to - from >= BOX_PX || (i === state.selected && to - from >= MIN_PX)) {
            into.push(drawBox(i, from, to - from, y, size));
            k++;
            continue;
        }
        let next = k + 1, edge = to, hit = state.match && state.match[data.frame[i]];
        if (to - from < MIN_PX) {
            next = Math.max(k + 1, firstAt(row, left + (from + MIN_PX) / scale));
            edge = Math.max(to, Math.min(from + MIN_PX, size.width));
            for (let m = k; state.match && !hit && m < next; m++) hit = state.match[data.frame[row[m]]];
        }
        const name = colourClass(i) + (hit ? ' hit' : state.match ? ' dim' : '');
        const part = 'M' + from.toFixed(2) + ' ' + y + 'h' + (edge - from).toFixed(2) + 'v' + (ROW - 1) + 'h' +
            (from - edge).toFixed(2) + 'z';
        slivers.set(name, (slivers.get(name) || '') + part);
        k = next;
    }
}

function draw() {
    const size = chartSize();
    size.cell = ui.cell;
    const top = ui.chart.scrollTop - 8, bottom = top + ui.chart.clientHeight;
    let first = Math.floor(top / ROW), last = Math.ceil(bottom / ROW);
    if (state.flip) {
        const lowest = Math.floor((size.height - bottom) / ROW), highest = Math.ceil((size.height - top) / ROW);
        first = lowest;
        last = highest;
    }
    first = Math.max(0, first - OVERSCAN);
    last = Math.min(size.rows - 1, last + OVERSCAN);
    const boxes = [], slivers = new Map();
    for (let d = first; d <= last; d++) drawRow(d, size, boxes, slivers);
    for (const [name, path] of slivers) boxes.push(s('path', {class: name, d: path}));
    ui.svg.setAttribute('width', size.width);
    ui.svg.setAttribute('height', size.height);
    ui.boxes.replaceChildren(...boxes);
    state.drawn = {first, last, size};
    drawRings();
}

function ringAt(ring, i, size, pad) {
    const [left, right] = state.view, scale = size.width / (right - left);
    const from = Math.max(0, (data.start[i] - left) * scale);
    const to = Math.min(size.width, (data.start[i] + data.total[i] - left) * scale);
    const seen = i >= 0 && to > -2 && from < size.width + 2 && data.depth[i] < size.rows;
    ring.setAttribute('visibility', seen ? 'visible' : 'hidden');
    if (!seen) return;
    ring.setAttribute('x', from + pad);
    ring.setAttribute('y', rowTop(size, data.depth[i]) + pad);
    ring.setAttribute('width', Math.max(2, to - from - 0.8 - 2 * pad));
    ring.setAttribute('height', ROW - 1 - 2 * pad);
}

function drawRings() {
    const size = state.drawn.size, focused = ui.chart.matches(state.keys ? ':focus' : ':focus-visible');
    ringAt(ui.hover, state.hover, size, 0.75);
    ringAt(ui.sel2, focused ? state.selected : -1, size, 0);
    ringAt(ui.sel, focused ? state.selected : -1, size, 0);
    if (root.querySelector('#apn' + state.selected)) ui.chart.setAttribute('aria-activedescendant', 'apn' + state.selected);
    else ui.chart.removeAttribute('aria-activedescendant');
}

/* Redraws when scrolling left the rows drawn so far. */
function onScroll() {
    if (state.frame) return;
    state.frame = requestAnimationFrame(() => {
        state.frame = 0;
        draw();
    });
}

/* Moves the view to `target`; jumps when motion is unwanted or one picture takes too long. */
function moveView(target) {
    const from = state.view.slice(), began = performance.now();
    cancelAnimationFrame(state.timer);
    const finish = () => { state.view = target; draw(); };
    if (reduced.matches || document.hidden) return finish();
    let slow = 0;
    const step = () => {
        const now = performance.now(), t = Math.min(1, (now - began) / 180), e = 1 - Math.pow(1 - t, 3);
        if (t >= 1 || slow > 1) return finish();
        state.view = [0, 1].map((k) => from[k] + (target[k] - from[k]) * e);
        draw();
        if (performance.now() - now > 14) slow++;
        state.timer = requestAnimationFrame(step);
    };
    step();
}

/* ---- zoom ---- */

function showRow(depth, context) {
    const size = chartSize(), y = rowTop(size, depth), room = ui.chart.clientHeight - 16, top = ui.chart.scrollTop;
    ui.svg.setAttribute('height', size.height);
    if (context) ui.chart.scrollTop = state.flip ? y + ROW * 4 - room : y - ROW * 3;
    else if (y < top) ui.chart.scrollTop = y - ROW;
    else if (y + ROW > top + room) ui.chart.scrollTop = y + 2 * ROW - room;
}

function setZoom(i) {
    state.zoom = i;
    state.rows = rowsOf(i);
    state.hover = -1;
    hideTip();
    showRow(data.depth[i], true);
    moveView([data.start[i], data.start[i] + data.total[i]]);
    drawCrumbs();
    drawMatched();
    drawLine();
    ui.reset.disabled = i === 0;
}

function zoomTo(i, quiet) {
    if (i === state.zoom || !data.total[i]) return;
    state.trail.push(state.zoom);
    select(i, true);
    setZoom(i);
    saveState(true);
    if (!quiet) say('Zoomed to ' + frameOf(i).name.slice(0, 200) + ', ' + percent(data.total[i], whole));
}

function zoomBack() {
    const i = state.trail.length ? state.trail.pop() : data.parent[state.zoom];
    if (i === state.zoom) return;
    setZoom(i);
    saveState(false);
    say('Back to ' + frameOf(i).name.slice(0, 200));
}

function resetZoom() {
    if (state.zoom) zoomTo(0);
}

/* ---- selection and details ---- */

function select(i, quiet) {
    const before = root.querySelector('#apn' + state.selected), after = root.querySelector('#apn' + i);
    state.selected = i;
    if (before) before.removeAttribute('aria-selected');
    if (after && after.hasAttribute('role')) after.setAttribute('aria-selected', 'true');
    if (state.drawn) drawRings();
    drawLine();
    const f = frameOf(i);
    if (!quiet)
        say(f.name.slice(0, 300) + ', ' + kindName(f, i) + ', ' + percent(data.total[i], whole) + ' of all, self ' +
            percent(data.self[i], whole));
}

/* Sum over all places of one function, a stack counted once however often the function recurs in it. */
function everywhere(i) {
    const key = frameOf(i).key, same = data.frames.map((f) => f.key === key);
    let total = 0, places = 0;
    for (let k = 0; k < data.n;) {
        if (same[data.frame[k]]) {
            total += data.total[k];
            places++;
            k = data.end[k];
        } else k++;
    }
    return {total, places};
}

function amount(count, value) {
    return (data.info.by_count ? '' : time(value) + ' · ') + samples(count);
}

function drawLine() {
    const i = state.hover >= 0 ? state.hover : state.selected, f = frameOf(i);
    const parts = [h('b', {class: 'mono'}, f.name.slice(0, 600))];
    if (f.module) parts.push(h('span', {}, baseName(f.module)));
    if (f.file) parts.push(h('span', {}, place(f)));
    parts.push(h('span', {class: 'kind'}, kindName(f, i)));
    parts.push(h('span', {class: 'num'}, 'total ' + percent(data.total[i], whole) + ' (' +
        amount(data.count[i], data.total[i]) + ')'));
    parts.push(h('span', {class: 'num'}, 'self ' + percent(data.self[i], whole)));
    if (state.zoom && inside(i, state.zoom))
        parts.push(h('span', {class: 'num'}, percent(data.total[i], data.total[state.zoom]) + ' of view'));
    if (isCode(f)) {
        const all = everywhere(i);
        if (all.places > 1)
            parts.push(h('span', {class: 'num'}, percent(all.total, whole) + ' in ' + grouped(all.places) + ' places'));
    }
    ui.line.replaceChildren(...parts);
}

function tipRow(name, count, value) {
    const cells = [h('th', {scope: 'row'}, name), h('td', {}, grouped(count))];
    if (!data.info.by_count) cells.push(h('td', {}, time(value)));
    cells.push(h('td', {}, percent(value, whole)));
    if (state.zoom) cells.push(h('td', {}, percent(value, data.total[state.zoom])));
    return h('tr', {}, cells);
}

function showTip(i, x, y) {
    const f = frameOf(i), heads = ['', unitName + 's'];
    if (!data.info.by_count) heads.push('time');
    heads.push('of all');
    if (state.zoom) heads.push('of view');
    const under = state.zoom && !inside(i, state.zoom);
    const where = [f.module, place(f)].filter(Boolean);
    ui.tip.replaceChildren(h('b', {class: 'mono'}, f.name.slice(0, 1500)),
        ...where.map((w) => h('p', {}, w.slice(0, 400))),
        h('p', {}, kindName(f, i) + (under ? ' · calls the zoomed frame' : '')),
        h('table', {}, [h('thead', {}, h('tr', {}, heads.map((c) => h('th', {scope: 'col'}, c)))),
            h('tbody', {}, [tipRow('total', data.count[i], data.total[i]), tipRow('self', data.selfCount[i], data.self[i])])]));
    const app = ui.app.getBoundingClientRect(), tip = ui.tip.getBoundingClientRect();
    let left = x - app.left + 14, top = y - app.top + 18;
    if (left + tip.width > app.width - 8) left = Math.max(8, app.width - 8 - tip.width);
    if (top + tip.height > app.height - 8) top = Math.max(8, y - app.top - tip.height - 12);
    ui.tip.style.left = left + 'px';
    ui.tip.style.top = top + 'px';
    ui.tip.style.visibility = 'visible';
}

function hideTip() {
    if (ui.tip) ui.tip.style.visibility = 'hidden';
}

/* By position and not by element, so that frames narrower than a pixel can be hit too. */
function nodeAt(event) {
    const box = ui.svg.getBoundingClientRect(), size = state.drawn.size;
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const depth = Math.floor((state.flip ? size.height - y : y) / ROW);
    if (x < 0 || x >= size.width || depth < 0 || depth >= size.rows) return -1;
    const row = data.levels[depth], value = state.view[0] + x * (state.view[1] - state.view[0]) / size.width;
    const i = row[firstAt(row, value)];
    return i !== undefined && data.start[i] <= value ? i : -1;
}

function onMove(event) {
    const i = nodeAt(event);
    if (i !== state.hover) {
        state.hover = i;
        drawLine();
        drawRings();
    }
    if (i < 0) hideTip();
    else showTip(i, event.clientX, event.clientY);
}

function onLeave() {
    state.hover = -1;
    hideTip();
    drawLine();
    drawRings();
}

/* ---- search ---- */

/* A test for one frame, or null for an empty query; throws on a bad regular expression. */
function matcher(query, regex) {
    const scoped = /^(module|kind|file):(.*)$/s.exec(query);
    const field = scoped ? scoped[1] : 'name', text = scoped ? scoped[2] : query;
    if (!text) return null;
    const value = (f) => (field === 'kind' ? KINDS[f.kind] : f[field]);
    if (field === 'kind') return (f) => value(f) === text.toLowerCase();
    if (regex) {
        const re = new RegExp(text, 'i');
        return (f) => re.test(value(f));
    }
    const low = text.toLowerCase();
    return (f) => value(f).toLowerCase().includes(low);
}

/* Weight of the matched stacks in a subtree. The outermost match takes its whole subtree: each sample counts once. */
function matchedIn(top) {
    const sum = {count: 0, total: 0};
    for (let i = top; ; i = data.parent[i]) {
        if (state.match[data.frame[i]]) return {count: data.count[top], total: data.total[top]};
        if (!i) break;
    }
    for (let i = top; i < data.end[top];) {
        if (state.match[data.frame[i]]) {
            sum.count += data.count[i];
            sum.total += data.total[i];
            i = data.end[i];
        } else i++;
    }
    return sum;
}

function search(query, regex) {
    let test = null, bad = '';
    try {
        test = matcher(query, regex);
    } catch (error) {
        bad = error.message;
    }
    state.query = query;
    state.regex = regex;
    /* the root is not a frame that anybody looks for */
    state.match = test ? data.frames.map((f, k) => (k === data.frame[0] ? false : test(f))) : null;
    state.matches = [];
    state.at = -1;
    for (let i = 0; state.match && i < data.n; i++) if (state.match[data.frame[i]]) state.matches.push(i);
    ui.search.classList.toggle('bad', !!bad);
    ui.input.setAttribute('aria-invalid', bad ? 'true' : 'false');
    ui.input.title = bad;
    ui.regex.setAttribute('aria-pressed', regex ? 'true' : 'false');
    ui.clear.hidden = !query;
    for (const button of ui.legend.querySelectorAll('button'))
        button.setAttribute('aria-pressed', state.query === button.dataset.query ? 'true' : 'false');
    draw();
    drawMatched();
}

function drawMatched() {
    if (!state.match) {
        ui.matched.replaceChildren(...(ui.search.classList.contains('bad') ? ['not a regular expression'] : []));
        return;
    }
    const all = matchedIn(0), words = ['Matched ' + percent(all.total, whole), samples(all.count)];
    if (state.zoom) words.splice(1, 0, percent(matchedIn(state.zoom).total, data.total[state.zoom]) + ' of view');
    words.push(state.at >= 0 ? grouped(state.at + 1) + ' of ' + grouped(state.matches.length)
        : grouped(state.matches.length) + (state.matches.length === 1 ? ' frame' : ' frames'));
    const jump = (name, path, step) => h('button', {type: 'button', 'aria-label': name, title: name,
        disabled: state.matches.length ? null : '', on: {click: () => jumpMatch(step)}}, icon(path));
    ui.matched.replaceChildren(h('i', {}), h('span', {id: 'ap-matched', 'data-samples': all.count, 'data-value': all.total},
        words.join(' · ')), jump('Previous match (N)', ICONS.up, -1), jump('Next match (n)', ICONS.down, 1));
}

function runSearch(query, regex) {
    clearTimeout(state.typing);
    ui.input.value = query;
    search(query, regex);
    saveState(false);
    if (state.match) say(ui.matched.textContent);
}

/* The outermost frame around `i` in which it is wide enough to read; the present view when that will do. */
function readableView(i) {
    const enough = (top) => inside(i, top) && data.total[i] / data.total[top] * state.drawn.size.width >= 8;
    let top = i, best = i;
    if (enough(state.zoom)) return state.zoom;
    while (top) {
        top = data.parent[top];
        if (!enough(top)) break;
        best = top;
    }
    return best;
}

function jumpMatch(step) {
    const n = state.matches.length;
    if (!n) return;
    state.at = state.at < 0 ? (step > 0 ? 0 : n - 1) : (state.at + step + n) % n;
    const i = state.matches[state.at];
    goTo(i);
    drawMatched();
}

/* Selects a frame and makes sure that it can be seen. */
function goTo(i) {
    ui.chart.focus({preventScroll: true, focusVisible: true});
    const view = readableView(i);
    if (view !== state.zoom) zoomTo(view, true);
    select(i);
    showRow(data.depth[i], false);
    draw();
}

/* ---- address ---- */

/* Old entries of the address stay in the browser's history for zooms, so that its Back button works. */
function saveState(push) {
    const p = new URLSearchParams();
    if (state.query) p.set('s', state.query);
    if (state.query && state.regex) p.set('r', '1');
    if (state.zoom) p.set('x', state.zoom);
    if (state.flip) p.set('i', '1');
    const url = '#' + p.toString();
    try {
        if (push) history.pushState(null, '', url);
        else history.replaceState(null, '', url);
    } catch (error) {
        /* a document without an address of its own: the state just is not kept */
    }
}

function readState() {
    const p = new URLSearchParams(location.hash.slice(1)), x = Number(p.get('x') || 0);
    const flip = p.get('i') === '1';
    if (flip !== state.flip) setFlip(flip, true);
    ui.input.value = p.get('s') || '';
    search(ui.input.value, p.get('r') === '1');
    const target = Number.isInteger(x) && x >= 0 && x < data.n && data.total[x] ? x : 0;
    if (target !== state.zoom) {
        select(target, true);
        setZoom(target);
    }
}

/* ---- keyboard ---- */

function sibling(i, step) {
    const p = data.parent[i];
    if (!i) return i;
    if (step > 0) return data.end[i] < data.end[p] ? data.end[i] : i;
    let before = i;
    for (let k = p + 1; k < i; k = data.end[k]) before = k;
    return before;
}

const firstChild = (i) => (data.end[i] > i + 1 ? i + 1 : i);

function chartKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    state.keys = true;
    const i = state.selected, down = state.flip ? 'ArrowUp' : 'ArrowDown', up = state.flip ? 'ArrowDown' : 'ArrowUp';
    const moves = {[down]: () => firstChild(i), [up]: () => data.parent[i], ArrowLeft: () => sibling(i, -1),
        ArrowRight: () => sibling(i, 1), Home: () => state.zoom};
    if (moves[event.key]) {
        const to = moves[event.key]();
        if (!inside(to, state.zoom) && !inside(state.zoom, to)) zoomTo(data.parent[to], true);
        select(to);
        showRow(data.depth[to], false);
        draw();
    } else if (event.key === 'Enter' || event.key === ' ') zoomTo(i);
    else if (event.key === 'Backspace') zoomBack();
    else return;
    hideTip();
    event.preventDefault();
    event.stopPropagation();
}

function escapeKey() {
    if (ui.over) closeBox();
    else if (document.activeElement === ui.input) {
        if (ui.input.value) runSearch('', state.regex);
        ui.chart.focus();
    } else if (state.zoom) resetZoom();
    else if (state.query) runSearch('', state.regex);
}

function pageKey(event) {
    const typing = event.target === ui.input, find = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'f';
    if (find && !typing && !ui.over) { /* a second Ctrl-F reaches the browser's own search */
        focusSearch();
        return event.preventDefault();
    }
    if (event.key === 'Escape') {
        escapeKey();
        return event.preventDefault();
    }
    if (typing && event.key === 'Enter') {
        runSearch(ui.input.value, state.regex);
        jumpMatch(event.shiftKey ? -1 : 1);
        return event.preventDefault();
    }
    if (typing || event.ctrlKey || event.altKey || event.metaKey || ui.over) return undefined;
    const keys = {'/': focusSearch, n: () => jumpMatch(1), N: () => jumpMatch(-1), i: () => setFlip(!state.flip),
        t: toggleTheme, r: resetZoom, '?': showHelp, Backspace: zoomBack};
    if (!Object.hasOwn(keys, event.key)) return undefined;
    keys[event.key]();
    return event.preventDefault();
}

function focusSearch() {
    ui.input.focus();
    ui.input.select();
}

function say(text) {
    ui.live.textContent = text;
}

/* ---- switches ---- */

function setFlip(flip, quiet) {
    state.flip = flip;
    ui.flip.setAttribute('aria-pressed', flip ? 'true' : 'false');
    showRow(data.depth[state.zoom], true);
    if (inside(state.selected, state.zoom)) showRow(data.depth[state.selected], false);
    draw();
    if (!quiet) {
        saveState(false);
        say(flip ? 'Root at the bottom' : 'Root at the top');
    }
}

const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : darkScheme.matches);

function toggleTheme() {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    try {
        localStorage.setItem('aperture-theme', root.dataset.theme);
    } catch (error) {
        /* no storage for files here: the choice holds until the page is closed */
    }
    say(root.dataset.theme + ' colours');
}

/* ---- panels ---- */

function openBox(title, content) {
    closeBox();
    ui.before = document.activeElement;
    const close = h('button', {type: 'button', class: 'ap-close', 'aria-label': 'Close', on: {click: closeBox}}, icon(ICONS.close));
    const box = h('div', {class: 'ap-box', role: 'dialog', 'aria-modal': 'true', 'aria-labelledby': 'ap-box-title', tabindex: '-1'},
        [h('h2', {id: 'ap-box-title'}, title), close, ...content]);
    ui.over = h('div', {class: 'ap-over', on: {
        click: (event) => { if (event.target === ui.over) closeBox(); },
        keydown: (event) => { if (event.key === 'Tab') { event.preventDefault(); close.focus(); } },
    }}, box);
    ui.app.append(ui.over);
    close.focus();
}

function closeBox() {
    if (!ui.over) return;
    ui.over.remove();
    ui.over = null;
    if (ui.before && ui.before.focus) ui.before.focus();
}

/* `styles`: per column "n" for numbers, "w" for text that must not wrap, "" for the rest. */
function table(heads, rows, styles) {
    const cls = (k) => (styles[k] ? {class: styles[k]} : {});
    return h('table', {}, [
        h('thead', {}, h('tr', {}, heads.map((c, k) => h('th', Object.assign({scope: 'col'}, cls(k)), c)))),
        h('tbody', {}, rows.map((row) => h('tr', {}, row.map((c, k) => h('td', cls(k), c))))),
    ]);
}

function showHelp() {
    const rows = [
        [['Click', 'Enter'], 'Zoom to a frame'], [['Backspace'], 'Back to the view before'],
        [['Esc', 'r'], 'Reset the zoom'], [['↑', '↓', '←', '→'], 'Caller, callee, sibling frames'],
        [['Home'], 'Select the zoomed frame'], [['/', 'Ctrl F'], 'Search; again for the browser\'s own search'],
        [['n', 'N'], 'Next, previous match'], [['i'], 'Flip: root at the top or at the bottom'],
        [['t'], 'Light or dark colours'], [['?'], 'This help'],
    ].map(([keys, what]) => [h('span', {}, keys.map((k) => h('kbd', {}, k))), what]);
    openBox('How to read and use this flamegraph', [
        h('p', {}, 'Each box is a function; it stands next to its caller and is as wide as the ' + (data.info.by_count ?
            'samples' : 'time') + ' spent in it and in all that it called. The order from left to right is by size, not by time.'),
        h('p', {class: 'muted'}, 'Search takes part of a function name, or with .* a regular expression. ' +
            'module:, file: and kind: search those instead: module:libc, kind:kernel.'),
        h('h3', {}, 'Keys'), table(['Key', 'What it does'], rows, ['w', ''])]);
}

function showAccount() {
    const info = data.info, content = [h('p', {}, lines.account)];
    if (info.losses.length)
        content.push(h('h3', {}, 'Losses'), table(['Reason', 'Count', 'Missing samples', 'What it means'],
            info.losses.map((l) => [l[0], grouped(l[1]), l[2] ? 'yes' : 'no', l[3]]), ['w', 'n', 'w', '']));
    else content.push(h('p', {class: 'muted'}, 'Nothing was lost.'));
    content.push(h('h3', {}, 'Frames without a name'), h('p', {}, lines.unresolved));
    if (info.unresolved.length) {
        content.push(table(['Module', 'Reason', 'Addresses', 'Samples', 'What to do'],
            info.unresolved.map((u) => [u[0], u[1], grouped(u[2]), grouped(u[3]), u[4]]), ['m', 'w', 'n', 'n', '']));
        if (info.unresolved_rows > info.unresolved.length)
            content.push(h('p', {class: 'muted'}, 'and ' + grouped(info.unresolved_rows - info.unresolved.length) + ' more rows'));
    }
    content.push(h('h3', {}, 'Cost'), h('p', {}, lines.foot));
    openBox('What is in this picture and what is not', content);
}

/* ---- parts of the page ---- */

function drawCrumbs() {
    const path = [];
    for (let i = state.zoom; i; i = data.parent[i]) path.unshift(i);
    path.unshift(0);
    const gap = path.length > 7 ? path.length - 6 : 0;
    const crumb = (i, text) => h('li', {class: text || frameOf(i).name.length < 15 ? 'short' : null}, h('button', {type: 'button', class: 'mono', title: frameOf(i).name.slice(0, 500),
        'aria-current': i === state.zoom ? 'true' : null, on: {click: () => zoomTo(i)}}, text || frameOf(i).name.slice(0, 120)));
    const items = path.map((i) => crumb(i));
    if (gap) items.splice(2, gap, crumb(path[1 + gap], '… ' + gap + ' more'));
    ui.crumbs.replaceChildren(...items);
}

function buildTools() {
    const button = (name, label, content, click) => (ui[name] = h('button', {type: 'button', 'aria-label': label, title: label,
        id: 'ap-' + name, on: {click}}, content));
    ui.input = h('input', {type: 'text', id: 'ap-search', placeholder: 'Search functions', 'aria-label': 'Search functions',
        spellcheck: 'false', autocomplete: 'off', on: {input: onInput}});
    const regex = button('regex', 'Regular expression', h('span', {class: 'mono'}, '.*'), () => runSearch(ui.input.value, !state.regex));
    const clear = button('clear', 'Clear the search', icon(ICONS.close), () => { runSearch('', state.regex); ui.input.focus(); });
    clear.hidden = true;
    ui.search = h('div', {class: 'ap-search', role: 'search'}, [ui.input, clear, regex]);
    return h('div', {class: 'ap-tools', role: 'toolbar', 'aria-label': 'Tools'}, [ui.search, h('span', {class: 'ap-sep'}),
        button('reset', 'Reset the zoom (Esc)', [icon(ICONS.reset), h('span', {class: 'ap-label'}, 'Reset')], resetZoom),
        button('flip', 'Flip: root at the bottom (i)', [icon(ICONS.flip), h('span', {class: 'ap-label'}, 'Flip')], () => setFlip(!state.flip)),
        button('theme', 'Light or dark colours (t)', icon(ICONS.theme), toggleTheme),
        button('help', 'Help (?)', '?', showHelp)]);
}

function onInput() {
    clearTimeout(state.typing);
    state.typing = setTimeout(() => runSearch(ui.input.value, state.regex), data.n > 20000 ? 120 : 30);
}

/* Kinds that occur, with their share of self time; a click finds them. */
function buildLegend() {
    const self = new Float64Array(KINDS.length), seen = new Set();
    let inlined = false;
    for (let i = 1; i < data.n; i++) {
        const f = frameOf(i);
        let owner = i; /* a waker stands below the wait that it ended: the time is the wait's */
        while (owner && frameOf(owner).waker) owner = data.parent[owner];
        self[frameOf(owner).kind] += data.self[i];
        seen.add(f.kind);
        inlined = inlined || f.inlined;
    }
    const swatch = (cls) => s('svg', {viewBox: '0 0 13 13', 'aria-hidden': 'true'},
        s('rect', {class: cls, x: 0.5, y: 0.5, width: 12, height: 12, rx: 2}));
    const items = LEGEND.filter((k) => seen.has(k)).map((k) => h('button', {type: 'button', 'aria-pressed': 'false',
        'data-query': 'kind:' + KINDS[k], title: 'Find ' + KINDS[k] + ' frames',
        on: {click: () => runSearch(state.query === 'kind:' + KINDS[k] ? '' : 'kind:' + KINDS[k], state.regex)}},
    [swatch(k === KIND.mark ? 'km' : 'k' + k + 's3'), KINDS[k], k >= KIND.mark ? '' : h('em', {}, percent(self[k], whole))]));
    if (inlined) {
        const mark = swatch('inl');
        mark.firstChild.setAttribute('style', 'fill:none;stroke:var(--edge)');
        items.push(h('span', {}, [mark, 'dashed edge: inlined']));
    }
    ui.legend = h('div', {class: 'ap-legend', role: 'group', 'aria-label': 'Frame kinds with their share of self time'}, items);
    return ui.legend;
}

function buildChart() {
    ui.boxes = s('g', {class: 'mono'});
    ui.hover = s('rect', {class: 'ap-ring hover', rx: 1.5, visibility: 'hidden'});
    ui.sel2 = s('rect', {class: 'ap-ring sel2', rx: 1.5, visibility: 'hidden'});
    ui.sel = s('rect', {class: 'ap-ring sel', rx: 1.5, visibility: 'hidden'});
    ui.svg = s('svg', {role: 'presentation', id: 'ap-flame'}, [ui.boxes, ui.hover, ui.sel2, ui.sel]);
    ui.chart = h('div', {class: 'ap-chart', id: 'ap-chart', tabindex: '0', role: 'tree', 'aria-label': 'Call tree. Arrow keys ' +
        'move between frames, Enter zooms, Backspace goes back.', on: {scroll: onScroll, keydown: chartKey, mousemove: onMove,
        mouseleave: onLeave, mousedown: () => { state.keys = false; }, focus: () => drawRings(), blur: () => drawRings(), click: (event) => {
            const i = nodeAt(event);
            if (i >= 0) zoomTo(i);
        }}}, ui.svg);
    return ui.chart;
}

function buildPage() {
    const warn = lines.account.includes('off by') || data.info.losses.some((l) => l[2]);
    const account = h('button', {type: 'button', id: 'ap-quality', class: 'ap-account' + (warn ? ' warn' : ''),
        title: 'Losses and unresolved frames in detail', on: {click: showAccount}},
    lines.account + ' · ' + lines.unresolved);
    ui.live = h('div', {class: 'ap-hide', role: 'status', 'aria-live': 'polite'});
    ui.crumbs = h('ol', {class: 'ap-crumbs', 'aria-label': 'Zoomed frame and its callers'});
    ui.matched = h('div', {class: 'ap-matched'});
    ui.line = h('div', {class: 'ap-line', id: 'ap-line'});
    ui.tip = h('div', {class: 'ap-tip', id: 'ap-tip', role: 'tooltip'});
    const head = h('header', {class: 'ap-head'}, [h('div', {class: 'ap-names'}, [h('h1', {}, lines.title),
        h('p', {title: lines.sub}, lines.sub)]), whole ? buildTools() : null]);
    const foot = h('footer', {class: 'ap-foot'}, [whole ? buildLegend() : null, account,
        h('p', {class: 'ap-cost'}, lines.foot)]);
    const middle = whole ? [h('div', {class: 'ap-bar'}, [ui.crumbs, ui.matched]), buildChart(), ui.line] :
        [h('div', {class: 'ap-empty'}, [h('h2', {}, lines.empty), h('p', {}, lines['empty-why'])])];
    ui.app = h('div', {class: 'ap-app'}, [head, ...middle, foot, ui.tip, ui.live]);
}

/* The picture gives way to the page: the whole window when the file stands alone, else a box in the page around it. */
function mount() {
    const alone = root === document.documentElement;
    root.removeAttribute('viewBox');
    root.removeAttribute('aria-describedby');
    root.setAttribute('width', '100%');
    root.setAttribute('height', alone ? '100%' : Math.min(760, Number(root.getAttribute('height')) + 80));
    byId('ap-static').remove();
    root.append(s('foreignObject', {x: 0, y: 0, width: '100%', height: '100%'}, ui.app));
}

function measureCell() {
    const context = h('canvas').getContext('2d');
    context.font = '12px ' + getComputedStyle(ui.boxes).fontFamily;
    return context.measureText('0'.repeat(100)).width / 100 || 7.25;
}

function start() {
    try {
        const theme = localStorage.getItem('aperture-theme');
        if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
    } catch (error) {
        /* no storage: the system's colours */
    }
    buildPage();
    mount();
    if (!whole) return;
    ui.cell = measureCell();
    setZoom(0);
    readState();
    if (window.ResizeObserver) new ResizeObserver(() => draw()).observe(ui.chart);
    window.addEventListener('resize', () => draw());
    window.addEventListener('popstate', readState);
    document.addEventListener('keydown', pageKey);
}

start();
})();
