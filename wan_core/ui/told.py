"""What the core says in English, in the visitor's language: errors, how a job ended, what differs.

The core makes whole sentences and knows no languages. Here each kind of sentence is a pattern with
its translations; what no pattern fits is shown as it is, in English.
"""

from __future__ import annotations

import re
from functools import lru_cache

from wan_core.ui.words import LANGUAGES, WORDS

#: Fields of a request as the page names them.
FIELDS = {
    "prompt": ("プロンプト", "提示词"), "negative_prompt": ("ネガティブプロンプト", "负面提示词"),
    "image": ("最初のフレーム", "首帧"), "last_image": ("最後のフレーム", "尾帧"),
    "extends": ("続きを作る動画", "要续接的视频"),
    "reference_images": ("参照画像", "参考图片"), "audio": ("音声", "声音"), "width": ("幅", "宽"),
    "height": ("高さ", "高"), "num_frames": ("長さ（フレーム）", "长度（帧）"),
    "duration_seconds": ("長さ（秒）", "时长（秒）"), "num_inference_steps": ("ステップ数", "步数"),
    "guidance_scale": ("ガイダンス", "引导"), "guidance_scale_2": ("低ノイズ時のガイダンス", "低噪声阶段引导"),
    "guidance_method": ("ガイダンスの式", "引导公式"), "guidance_start": ("ガイダンスの開始", "引导起点"),
    "guidance_stop": ("ガイダンスの終了", "引导终点"),
    "audio_guidance_scale": ("音声ガイダンス", "声音引导"), "image_guidance_scale": ("画像ガイダンス", "图片引导"),
    "flow_shift": ("フローシフト", "流偏移"), "sampler": ("サンプラー", "采样器"),
    "tier": ("計算するステップ", "计算的步骤"), "seed": ("シード", "种子"),
    "image_fit": ("合わせ方", "适配"), "focal_point": ("焦点", "焦点"), "size": ("大きさ", "尺寸"),
    "job": ("動画", "视频"), "file": ("ファイル", "文件"), "queue": ("順番待ち", "队列"),
}  # fmt: skip
#: What stands for a value that was not given in words of its own; it is left out.
SILENT = ("'nothing'", "'given'", "'given alone'")
#: Rules, hints and sentences; what stands in braces is carried over, {n:d} only if it is a number.
SENTENCES = {
    # what is missing or cannot be read
    "the Image tab needs a first frame": ("画像タブには最初のフレームが必要です", "图片标签页需要首帧"),
    "drop a picture on it": ("画像をドロップしてください", "请拖入一张图片"),
    "drop a picture on it, or a video to go on from": (
        "画像か、続きを作る動画を選んでください", "请拖入图片或要续接的视频",
    ),
    "reference mode goes on from no video": ("参照モードでは動画の続きを作れません", "参考模式不能续接视频"),
    "going on takes {n} frames or more": ("続きには{n}フレーム以上が必要です", "续接至少需要 {n} 帧"),
    "a video may have at most {n} megapixels a frame": (
        "動画は1フレーム{n}メガピクセルまでです", "视频每帧最多 {n} 百万像素",
    ),
    "does not say how long it is": ("長さが分かりません", "未标明时长"),
    "save it as mp4": ("mp4で保存してください", "请存为 mp4"),
    "the Reference tab needs a picture or a voice": ("参照タブには画像か音声が必要です", "参考标签页需要图片或声音"),
    "there is no such file": ("ファイルがありません", "文件不存在"),
    "check its name": ("名前を確かめてください", "请检查文件名"),
    "give it again": ("もう一度選んでください", "请重新选择"),
    "give one": ("どちらかを選んでください", "请提供其一"),
    "give an image": ("画像を選んでください", "请提供图片"),
    "give one of them": ("どちらか一方にしてください", "请只给其一"),
    "num_frames is given too": ("フレーム数も指定されています", "同时给了帧数"),
    "the video that is gone on from ends with the first frame": (
        "続きを作る動画の最後が最初のフレームになります", "续接视频的末帧即为首帧",
    ),
    "leave the image out": ("画像を外してください", "请去掉图片"),
    "leave reference images and audio out": ("参照画像と音声を外してください", "请去掉参考图片和声音"),
    "must be 0 to 2**53 - 1": ("0から2**53 - 1までです", "须为 0 到 2**53 - 1"),
    "this file is not a picture": ("画像ファイルではありません", "这不是图片文件"),
    "use PNG, JPEG or WebP": ("PNG、JPEG、WebPを使ってください", "请使用 PNG、JPEG 或 WebP"),
    "a picture may have at most {n} megapixels": ("画像は{n}メガピクセルまでです", "图片最多 {n} 百万像素"),
    "scale it down first": ("先に縮小してください", "请先缩小"),
    "this picture is damaged or cut short": ("画像が壊れているか途中で切れています", "图片已损坏或不完整"),
    "save it again": ("保存し直してください", "请重新保存"),
    "lasts longer than {n} seconds": ("{n}秒を超えています", "超过 {n} 秒"),
    "cut it into parts": ("分割してください", "请分段"),
    "takes too long to read": ("読み込みに時間がかかりすぎます", "读取时间过长"),
    "holds no sound that can be read": ("読み取れる音声がありません", "没有可读取的声音"),
    "holds samples that are not numbers": ("数値でないサンプルを含みます", "含有非数值采样"),
    "export it again": ("書き出し直してください", "请重新导出"),
    # whether a model fits, and where weights wait
    "fits": ("収まります", "可容纳"),
    "too large for this machine": ("この環境には大きすぎます", "超出本机容量"),
    "encoders wait in RAM": ("エンコーダーはRAMで待機", "编码器在内存中等待"),
    "encoders and one expert wait in RAM": (
        "エンコーダーと一方のエキスパートはRAMで待機", "编码器和一个专家在内存中等待",
    ),
    "encoders and {n} of {count} blocks wait in RAM": (
        "エンコーダーと{count}ブロック中{n}ブロックはRAMで待機", "编码器和 {count} 个块中的 {n} 个在内存中等待",
    ),
    # what a model does not do
    "a last frame needs a first one": ("最後のフレームには最初のフレームも必要です", "有尾帧时也需要首帧"),
    "give image too": ("最初のフレームも選んでください", "请同时提供首帧"),
    "{model} guides text, pictures and sound apart, in a way of its own": (
        "{model}は文・画像・音声を独自の方法で別々にガイドします", "{model} 以自己的方式分别引导文本、图片和声音",
    ),
    "{model} has no schedule of steps to leave out": (
        "{model}には省くステップの予定がありません", "{model} 没有可省略步骤的安排",
    ),
    "its first step stands still, which renoise takes for a finished video": (
        "最初のステップは動かないため、renoiseでは使えません", "其第一步静止不动，renoise 会将其当作成品视频",
    ),
    "{model} takes no last frame": ("{model}は最後のフレームを使えません", "{model} 不支持尾帧"),
    "{model} takes no {media}": ("{model}はこれを使えません", "{model} 不支持此项"),
    "a mask says what of a video is changed": (
        "マスクは動画のどこを変えるかを示します",
        "蒙版说明视频的哪一部分要改变",
    ),
    "give video too": ("動画も選んでください", "请同时提供视频"),
    "is not a video that can be read": ("読み取れる動画ではありません", "不是可读取的视频"),
    "holds no frames that can be read": ("読み取れるフレームがありません", "没有可读取的帧"),
    "leave it out": ("外してください", "请去掉"),
    "{model} has no {mode} mode": ("{model}にこのモードはありません（{mode}）", "{model} 没有此模式（{mode}）"),
    "{model} takes {least:d} to {most:d} reference pictures": (
        "{model}の参照画像は{least}枚から{most}枚までです",
        "{model} 的参考图片为 {least} 到 {most} 张",
    ),
    "{model} takes {count:d} reference pictures": (
        "{model}の参照画像は{count}枚です",
        "{model} 的参考图片为 {count} 张",
    ),
    "give {n:d}": ("{n}枚にしてください", "请提供 {n} 张"),
    "{model} only makes {size}": ("{model}は{size}だけを作ります", "{model} 只能生成 {size}"),
    # numbers and words
    "must be text": ("文字でなければなりません", "必须是文字"),
    "must say what to show": ("何を映すかを書いてください", "请描述要生成的画面"),
    "has {n} characters, at most {most} are read": (
        "{n}文字あります（{most}文字まで）",
        "有 {n} 个字符，最多 {most} 个",
    ),
    "shorten it by {n}": ("{n}文字減らしてください", "请减少 {n} 个字符"),
    "may have at most {n} characters": ("{n}文字までです", "最多 {n} 个字符"),
    "must be a multiple of {grid}, {least} to {most}": (
        "{grid}の倍数で{least}から{most}まで", "须为 {grid} 的倍数，{least} 到 {most}"
    ),
    "Wan makes {n}n+1 frames, 1 to {most}": (
        "フレーム数は{n}n+1、1から{most}までです",
        "帧数须为 {n}n+1，1 到 {most}",
    ),
    "must be a whole number": ("整数でなければなりません", "必须是整数"),
    "must be a number from {least} to {most}": ("{least}から{most}までの数です", "须为 {least} 到 {most} 的数"),
    "must be one of {options}": ("次のいずれかです：{options}", "须为以下之一：{options}"),
    "must be {least} to {most}": ("{least}から{most}までです", "须为 {least} 到 {most}"),
    "must be two numbers from 0 to 1": ("0から1までの数が2つ必要です", "须为两个 0 到 1 的数"),
    "try {n:d} frames or {other}": ("{n}フレームか{other}ではどうでしょう", "可以试试 {n} 帧或 {other}"),
    "try {n:d} frames": ("{n}フレームではどうでしょう", "可以试试 {n} 帧"),
    "try {one} or {other}": ("{one}か{other}ではどうでしょう", "可以试试 {one} 或 {other}"),
    "try {one}": ("{one}ではどうでしょう", "可以试试 {one}"),
    "takes about {need} beside the model, and {room} are free": (
        "モデルのほかに約{need}必要ですが、空きは{room}です", "除模型外约需 {need}，可用 {room}"
    ),
    "free some memory, or use a smaller model": (
        "メモリを空けるか、小さいモデルを使ってください",
        "请释放内存或使用更小的模型",
    ),
    # jobs
    "is not known here": ("ここにはありません", "这里没有"),
    "it may have been swept; make it again": (
        "整理されたかもしれません。作り直してください",
        "可能已被清理，请重新生成",
    ),
    "is damaged": ("壊れています", "已损坏"),
    "has no {name}": ("{name}がありません", "没有 {name}"),
    "make it again": ("作り直してください", "请重新生成"),
    "at most {most} may wait": ("順番待ちは{most}件までです", "最多可等待 {most} 个"),
    "try again later": ("後でもう一度試してください", "请稍后再试"),
    "try again in a moment": ("少し待ってからもう一度試してください", "请稍等再试"),
    "the job could not be queued": ("受け付けられませんでした", "未能加入队列"),
    "the job could not be written: there is no room for it, or no right to": (
        "保存できませんでした。空きがないか、権限がありません", "无法保存：空间不足或没有权限"
    ),
    "Something went wrong here, not with what you asked for. Please try again.": (
        "こちらで問題が起きました。もう一度お試しください。", "这里出了问题，与您的请求无关。请重试。"
    ),
    "There is no room left to write this video; free some space and try again.": (
        "動画を書き込む空きがありません。空きを作ってもう一度お試しください。", "没有空间写入视频；请释放空间后重试。"
    ),
    "Work on this broke off {n} times, probably for want of memory; ask for less, or for fewer frames.": (
        "{n}回途中で止まりました。メモリ不足のようです。小さくするか、フレームを減らしてください。",
        "已中断 {n} 次，可能是内存不足；请减小尺寸或帧数。",
    ),
    "The server was restarted in the middle of this; try again.": (
        "途中でサーバーが再起動しました。もう一度お試しください。", "服务器中途重启；请重试。"
    ),
    "What was known of this video can no longer be read; make it again.": (
        "この動画の情報を読めなくなりました。作り直してください。", "无法再读取此视频的信息；请重新生成。"
    ),
    "{size}, {frames} frames, seed {seed}, {seconds} s": (
        "{size}、{frames}フレーム、シード{seed}、{seconds}秒", "{size}，{frames} 帧，种子 {seed}，{seconds} 秒"
    ),
    "read as: {words}": ("「{words}」と解釈", "理解为：{words}"),
    "lip sync: {n:d} frames off, r = {r}": ("口の動き：ずれ{n}フレーム、r = {r}", "口型：偏差 {n} 帧，r = {r}"),
    "lip sync: {n:d} frame late, r = {r}": ("口の動き：{n}フレーム遅れ、r = {r}", "口型：滞后 {n} 帧，r = {r}"),
    "lip sync: {n:d} frames late, r = {r}": ("口の動き：{n}フレーム遅れ、r = {r}", "口型：滞后 {n} 帧，r = {r}"),
    "lip sync: {n:d} frame early, r = {r}": ("口の動き：{n}フレーム進み、r = {r}", "口型：提前 {n} 帧，r = {r}"),
    "lip sync: {n:d} frames early, r = {r}": ("口の動き：{n}フレーム進み、r = {r}", "口型：提前 {n} 帧，r = {r}"),
    # what a video says
    "there is no video to look at": ("動画がありません", "没有视频"),
    "this is not an mp4": ("mp4ではありません", "这不是 mp4"),
    "it holds no recipe": ("レシピがありません", "没有配方"),
    "it cannot be read": ("読み込めません", "无法读取"),
    "give an mp4": ("mp4を選んでください", "请提供 mp4"),
    "give a video made here": ("ここで作った動画を選んでください", "请提供在此生成的视频"),
    "give a video made here, not one converted since": (
        "ここで作り、変換していない動画を選んでください", "请提供在此生成且未经转换的视频"
    ),
    "Restored.": ("復元しました。", "已恢复。"),
    "This video was made in the {tab} tab; restore it there.": (
        "この動画は別のタブ（{tab}）で作られました。そこで復元してください。",
        "此视频在另一标签页（{tab}）生成；请在那里恢复。",
    ),
    "It was made by another version; what this one does not know is left out.": (
        "別のバージョンで作られました。分からない項目は省きます。", "由其他版本生成；无法识别的内容已略去。"
    ),
    "It was made by version {old}; this is {new}.": (
        "バージョン{old}で作られました（今は{new}）。",
        "由版本 {old} 生成；当前为 {new}。",
    ),
    "Not understood here: {names}.": ("分からない項目：{names}。", "无法识别：{names}。"),
    "A recipe does not hold {media}; give the same again.": (
        "レシピに画像や音声は入っていません。同じものを選び直してください。", "配方不含图片和声音；请重新提供。"
    ),
    "Nothing that is loaded makes {mode} videos.": (
        "読み込み済みのモデルでは作れません（{mode}）。",
        "已加载的模型都不能生成（{mode}）。",
    ),
    "It was made by {old}; {new} would make it now.": (
        "{old}で作られました。今は{new}が作ります。",
        "由 {old} 生成；现在将由 {new} 生成。",
    ),
    "It was made by other weights of {model}; the same seed makes another video now.": (
        "{model}の別の重みで作られました。同じシードでも違う動画になります。",
        "由 {model} 的其他权重生成；同一种子会得到不同视频。",
    ),
    "Its prompt is read otherwise now; the same seed makes another video.": (
        "プロンプトの解釈が変わりました。同じシードでも違う動画になります。",
        "提示词的理解方式已改变；同一种子会得到不同视频。",
    ),
    "{model} only makes {size}.": ("{model}は{size}だけを作ります。", "{model} 只能生成 {size}。"),
    "{model} makes at most {n} frames.": ("{model}は{n}フレームまでです。", "{model} 最多 {n} 帧。"),
    "{model} has no schedule of steps to leave out.": (
        "{model}には省くステップの予定がありません。", "{model} 没有可省略步骤的安排。",
    ),
    "It has {old} frames a second; {model} makes {new}.": (
        "毎秒{old}フレームの動画です。{model}は毎秒{new}フレームです。",
        "原为每秒 {old} 帧；{model} 为每秒 {new} 帧。",
    ),
}  # fmt: skip


#: Tabs and modes, which sentences carry in English.
_TABS = {name: WORDS[name.capitalize()] for name in ("text", "image", "reference", "Text", "Image", "Reference")}


def told(language: str, message: str) -> str:
    """A sentence of the core in a visitor's language.

    Args:
        language: one of ``LANGUAGES``.
        message: English.

    Returns:
        The translation, or the message where there is none.
    """
    if language == "en" or not message:
        return message
    which = LANGUAGES.index(language) - 1
    whole = _sentence(message, which) or _broken_rule(message, which) or _two(message, which)
    if whole is None and " · " in message:  # how a job ended, what was read, the lip sync
        return " · ".join(told(language, part) for part in message.split(" · "))
    return whole or message


def _broken_rule(message: str, which: int) -> str | None:
    """``field 'value': rule; hint``, as a request's errors are written."""
    name, _, rest = message.partition(" ")
    if name not in FIELDS or ": " not in rest:
        return None
    for cut in re.finditer(": ", rest):  # values may hold colons too
        value, said = rest[: cut.start()], _two(rest[cut.end() :], which)
        if said:
            field = FIELDS[name][which]
            return f"{field}：{said}" if value in SILENT or name == "queue" else f"{field}（{value}）：{said}"
    return None


def _two(text: str, which: int) -> str | None:
    """A rule and its hint, or a rule alone."""
    if whole := _sentence(text, which):
        return whole
    rule, cut, hint = text.partition("; ")
    first, second = _sentence(rule, which), _sentence(hint, which)
    return f"{first}。{second}。" if cut and first and second else None


def _sentence(text: str, which: int) -> str | None:
    for pattern, translations in _patterns():
        if found := pattern.fullmatch(text):
            filled = {name: _TABS.get(value, (value, value))[which] for name, value in found.groupdict().items()}
            return translations[which].format(**filled)
    return None


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], tuple[str, str]]]:
    """Those with more words of their own before those with fewer."""
    order = sorted(SENTENCES, key=lambda english: -len(re.sub(r"\{[\w:]+\}", "", english)))
    return [(re.compile(_as_pattern(english), re.DOTALL), SENTENCES[english]) for english in order]


def _as_pattern(english: str) -> str:
    said = ""
    for place, part in enumerate(re.split(r"\{(\w+(?::d)?)\}", english)):
        name, _, kind = part.partition(":")
        said += (f"(?P<{name}>[\\d,]+)" if kind else f"(?P<{name}>[^;]+?)") if place % 2 else re.escape(part)
    return said
