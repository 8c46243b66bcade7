// All that the page says, in English and Chinese. Knows: nothing else.

const WORDS = {
  en: {
    other: "中文", skip: "Skip to the content", view_memory: "Memory", view_write: "Write", view_compare: "Compare", view_results: "Results",
    namespace: "Namespace", whole: "Whole memory",
    sign_title: "Open this memory", sign_lead: "Start the server again for a new one-time link, or paste a key that extmem grant printed.",
    sign_key: "Key", sign_open: "Open", sign_bad: "This key or link does not open the memory.",
    memory_title: "What is remembered", memory_lead: "Everything the model can look up. Change a record, and what it says changes; forget one, and it is gone.",
    search: "Search", search_hint: "Search by words or meaning", show_all: "Show all of it", more: "More", empty: "Nothing is remembered here yet. Add a record, or drop a file.",
    none: "Nothing matches this search.", records: "records", datastore: "datastore", entries: "entries", add: "Add a record", edit: "Edit", forget: "Forget",
    key: "Key", value: "Text", save: "Save", cancel: "Cancel", bytes: "bytes", score: "score", matched: "matched",
    part_words: "words", part_meaning: "meaning", part_context: "context", part_speaker: "speaker", part_form: "form", part_time: "date",
    conflict: "Someone else changed this record while you were editing. It now says:", conflict_again: "Save again to put your text in its place, or cancel to keep theirs.",
    taken: "There is already a record with this key.", saved: "Saved.", not_json: "This record is structured data: the text must be valid JSON.",
    forgetting: (key) => `“${key}” will be forgotten in ten seconds.`, undo: "Undo", forgotten: (key) => `“${key}” is forgotten.`,
    drop: "Drop text or JSON-lines files here, or", choose: "choose files", importing: (name) => `Importing ${name}`, imported: (count) => (count === 1 ? "One record imported." : `${count} records imported.`),
    export: "Export", write_title: "Write with the memory", write_lead: "The greener a word, the more of its probability came from memory. Point at a word, or go there with Tab and the arrow keys, to see its source.",
    prompt: "Prompt", words: "Words at most", both: "Compare with and without memory", write: "Write", stop: "Stop",
    with: "With memory", without: "Without memory", cites_none: "Choose a word to see where it came from; those with a dotted line cite a record.", probability: "probability", from_memory: "from memory", from_text: "from this text", model_words: "The model alone", memory_words: "The memory", no_words: "nothing here", gone: "This record is no longer there.",
    compare_title: "Forget and compare", compare_lead: "See what the model writes, forget one record for good, and see what it writes then.",
    record: "Record", before: "Before", after: (key) => `After forgetting “${key}”`, forget_now: "Forget it and compare", sure: (key) => `Forget “${key}” for good? This cannot be undone.`,
    see: "Write with it", same: "The text is the same: this record did not change it.", differs: "The underlined words are different.", compare_none: "There is no record to forget.",
    view_chat: "Chat", chat_title: "Talk with the memory", chat_lead: "It keeps what you say and answers from it. Beside the conversation is what it recalled and what it holds about you: change it, or erase it for good.",
    user: "Talking as", said: "Message", send: "Send", chat_hint: "Enter sends, Shift and Enter begins a new line.", log: "Conversation", you: "You", reply: "Memory", sources: "Sources",
    chat_empty: "Nothing was said yet. Tell it something about yourself, then ask.", unknown: "That is not in memory.", noted: "noted", you_said: "you said", colon: ": ", comma: ", ", broke_off: "The writer failed. What you said is kept.",
    recalled: "Recalled for this message", recalled_none: "Nothing was recalled.", held: "Held about you", held_none: "Nothing yet.", from: "from", by_hand: "written by hand", earlier: "earlier",
    erase: "Erase", erased: (count) => `Erased, with all that rests on it: ${count}.`, turn: (number) => `turn ${number}`,
    results_title: "What the memory changes", results_lead: "How well the model foretells a text that it has not seen, alone and with the memory. The text is measured here and not kept.",
    measure: "Measure", measure_text: "A text that neither model nor memory has seen", measure_file: "Choose a text file", measured: "Measured", measuring: "Reading the text", tokens: (count) => `${count} tokens`,
    results_none: "Nothing has been measured yet. Paste a text, or drop a file on the field.", figures: "All figures",
    perplexity: "Perplexity", perplexity_about: "Lower is better: it is in doubt among so many words.", speed: "Speed", speed_about: "Tokens read in a second.",
    row_model: "Model alone", row_cache: "+ this text", row_datastore: "+ memory", row_memory: "+ both", source_model: "Model", source_cache: "This text", source_datastore: "Memory",
    calibration: "Calibration", calibration_about: "At every word each source is trusted more or less. On the line, it gave just as many of the words as it was trusted with.",
    trusted: "trusted with", owned: "gave", change: "change", bits: "bits/character", per_second: "tokens/s", off: (by) => `off by ${by}`,
    failed: (why) => `That did not work: ${why}`,
  },
  zh: {
    other: "English", skip: "跳到正文", view_memory: "记忆", view_write: "写作", view_compare: "对比", view_results: "结果",
    namespace: "命名空间", whole: "全部记忆",
    sign_title: "打开这份记忆", sign_lead: "重新启动服务器可得到新的一次性链接，也可以粘贴 extmem grant 打印的密钥。",
    sign_key: "密钥", sign_open: "打开", sign_bad: "这个密钥或链接无法打开记忆。",
    memory_title: "记住了什么", memory_lead: "模型能查到的一切都在这里。改一条记录，它的回答随之改变；忘掉一条，就真的没有了。",
    search: "搜索", search_hint: "按词语或含义搜索", show_all: "显示全文", more: "更多", empty: "这里还没有记忆。添加一条记录，或拖入文件。",
    none: "没有符合的记录。", records: "条记录", datastore: "数据存储", entries: "个条目", add: "添加记录", edit: "编辑", forget: "忘掉",
    key: "键", value: "文本", save: "保存", cancel: "取消", bytes: "字节", score: "得分", matched: "匹配",
    part_words: "词语", part_meaning: "含义", part_context: "上下文", part_speaker: "说话人", part_form: "形式", part_time: "日期",
    conflict: "在你编辑时，别人改了这条记录。现在的内容是：", conflict_again: "再次保存会用你的文本取代它；取消则保留对方的。",
    taken: "已有使用这个键的记录。", saved: "已保存。", not_json: "这条记录是结构化数据，内容必须是有效的 JSON。",
    forgetting: (key) => `“${key}”将在十秒后被忘掉。`, undo: "撤销", forgotten: (key) => `“${key}”已被忘掉。`,
    drop: "把文本或 JSON 行文件拖到这里，或", choose: "选择文件", importing: (name) => `正在导入 ${name}`, imported: (count) => `已导入 ${count} 条记录。`,
    export: "导出", write_title: "借助记忆写作", write_lead: "词的绿色越深，来自记忆的概率越大。指向一个词，或用 Tab 键和方向键移到它，就能看到出处。",
    prompt: "开头", words: "最多词数", both: "对比有记忆与无记忆", write: "写", stop: "停止",
    with: "有记忆", without: "无记忆", cites_none: "选择一个词，看它来自哪里；带虚线的词引用了记录。", probability: "概率", from_memory: "来自记忆", from_text: "来自本文", model_words: "只有模型", memory_words: "记忆", no_words: "这里没有", gone: "这条记录已经不在了。",
    compare_title: "遗忘与对比", compare_lead: "先看模型写什么，再永久忘掉一条记录，看它之后写什么。",
    record: "记录", before: "之前", after: (key) => `忘掉“${key}”之后`, forget_now: "忘掉并对比", sure: (key) => `永久忘掉“${key}”？此操作无法撤销。`,
    see: "先写一遍", same: "文本相同：这条记录没有影响它。", differs: "有下划线的词不同。", compare_none: "没有可以忘掉的记录。",
    view_chat: "对话", chat_title: "与记忆对话", chat_lead: "它会留住你说的话，并据此回答。旁边是它想起的内容，以及它记住的关于你的事：可以修改，也可以永久删除。",
    user: "对话者", said: "消息", send: "发送", chat_hint: "按 Enter 发送，Shift 加 Enter 换行。", log: "对话内容", you: "你", reply: "记忆", sources: "出处",
    chat_empty: "还没有说过什么。先说说你自己，再提问。", unknown: "记忆里没有。", noted: "记下了", you_said: "你说过", colon: "：", comma: "、", broke_off: "写作程序出错了。你说的话已保留。",
    recalled: "为这条消息想起的", recalled_none: "没有想起什么。", held: "记住的关于你的事", held_none: "还没有。", from: "来自", by_hand: "手写", earlier: "先前",
    erase: "删除", erased: (count) => `已删除，连同依据它的一切，共 ${count} 条。`, turn: (number) => `第 ${number} 句`,
    results_title: "记忆改变了什么", results_lead: "模型预测没见过的文本有多准：单独预测，以及借助记忆。文本只在这里度量，不会保存。",
    measure: "度量", measure_text: "一段模型和记忆都没见过的文本", measure_file: "选择文本文件", measured: "度量时间", measuring: "正在读文本", tokens: (count) => `${count} 个词元`,
    results_none: "还没有度量过。粘贴一段文本，或把文件拖到输入框。", figures: "全部数值",
    perplexity: "困惑度", perplexity_about: "越低越好：相当于在这么多个词之间拿不准。", speed: "速度", speed_about: "每秒读的词元数。",
    row_model: "只有模型", row_cache: "+ 本文", row_datastore: "+ 记忆", row_memory: "+ 两者", source_model: "模型", source_cache: "本文", source_datastore: "记忆",
    calibration: "校准", calibration_about: "在每个词上，各来源得到或多或少的信任。在线上，词中正好有这么多是它给的。",
    trusted: "得到的信任", owned: "实际给出", change: "变化", bits: "比特/字符", per_second: "词元/秒", off: (by) => `相差 ${by}`,
    failed: (why) => `没有成功：${why}`,
  },
};

const KEPT = "extmem.language";
let language = localStorage.getItem(KEPT) ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export const spoken = () => language;

export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, language);
}

/** What is said for a name; with a value where it takes one. */
export function t(name, given) {
  const said = WORDS[language][name];
  return typeof said === "function" ? said(given) : said;
}
