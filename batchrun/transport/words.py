"""Words and codes by which gateways tell of money, rates, keys and models, in English and Chinese. Pure.

1. They count at any status and in any envelope. Where they stand in the request's own body, a 400 may only quote it.
2. Money that is told per minute, or in words with a time to wait, is a rate. A code of money is none for a wait alone.
3. A key or account is refused, and a model is unknown, in few words with nothing between them: longer ones may be the
   line's.

Sources: OpenAI, Azure, Anthropic, Gemini, xAI, OpenRouter, Groq, Moonshot, MiniMax, Zhipu, DashScope, Volcengine,
SiliconFlow and Tencent Cloud (their lists of errors), LiteLLM, new-api and one-api.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache

from batchrun.records.outcome import Failure, FailureCode

_NAMED_MONEY = re.compile(
    r"^(?:1113|30001|billing_hard_limit_reached|billing_not_active|budget_exceeded|credit_balance_exhausted"
    r"|organization_usage_limit_exceeded|pre_consume_token_quota_failed)$"
    r"|arrear|overdue|insufficient_?(?:balance|credit|fund|quota|user_quota)|exceeded_current_quota|quota_?exhausted"
    r"|free_?tier_?only|payment_?required|billing_?error|(?:spend(?:ing)?|credit)_?limit|set_?limit_?exceeded|invoice",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"insufficient[ _](?:account[ _])?(?:balance|credit|fund|quota)"
    r"|(?:balance|credits?|quota|allowance|free tier)\b[^.]{0,40}?"
    r"(?:too low|insufficient|not enough|exhausted|depleted|used up|running out)"
    r"|not enough (?:balance|credit|fund|quota)|out of (?:credit|fund)|any credits\b"
    r"|no (?:remaining )?credits?\b(?! (?:was|were|have|has|will))|monthly (?:included )?credits\b|credits? expired"
    r"|credit limit exceeded|free trial (?:has |is )?(?:ended|expired|over)|add a (?:valid )?payment method"
    r"|specified api usage limits?|api calls ?/ ?month|未开通后付费"
    r"|exhausted (?:your|the|its|all|their) [^.]{0,40}(?:quota|credit|balance)|used all [^.]{0,20}credits"
    r"|in arrears|arrearage|overdue (?:balance|payment|bill|invoice)|account is overdue|past[- ]due"
    r"|unpaid (?:bill|invoice)|payment required|exceeded your current quota|check your plan and billing"
    r"|spend(?:ing)? limit|budget has been exceeded|over budget|billing (?:hard )?limit"
    r"|billing (?:is not|to be) (?:active|enabled)|(?:recharge|top up) (?:your|the) (?:account|balance)"
    r"|余额(?:不足|过低|已?用[完尽]|已?耗尽|为[0零负])|[额配]度?(?:不足|已?经?用[完尽]|已?经?耗尽)|欠费|充值|预扣费额度失败"
    r"|资源包已?(?:用[完尽]|耗尽|不足)|无可用资源包|套餐已(?:到期|过期|用完)|[点积]分?数?不足|账单逾期"
    r"|餘額不足|額度(?:不足|已用[完盡])|欠費",
    re.IGNORECASE,
)
_NAMED_RATE = re.compile(
    r"rate_?limit|too_?many_?requests|throttl|slow_?down|resource_?exhausted|request_?limit_?exceeded|burst_?too_?fast"
    r"|(?:rpm|tpm|qps)_?(?:rate_?)?(?:limit|exceed)|limit_(?:requests|burst|rpm|tpm|qps)|concurrenc"
    r"|^(?:limit_?exceeded|(?:no_?)?capacity(?:_exceeded)?|1302|1303|1305)$",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"rate[ _-]?limit|too many (?:concurrent |parallel )?(?:requests|calls)|throttl|slow down"
    r"|(?:request|token|call|quer(?:y|ie))s?(?: \w+)?[ -]per[ -](?:min|sec|hour|day)"
    r"|(?:call|request|calling)s? (?:are |is )?too (?:fast|frequent)|request frequency|requesting too"
    r"|too many concurrent|concurrency|concurrent (?:request|call|connection|session|limit)|parallel[ _]request"
    r"|too many tokens, please wait|(?:tier|temporary) capacity exceeded|capacity temporarily exceeded|request rate\b"
    r"|(?<![a-z])(?:[rt]pm|qps)(?![a-z])|request limit (?:exceeded|reached)"
    r"|exceed\w* (?:the )?(?:request|call) (?:limit|rate)"
    r"|速率限制|限速|限流|流控|频率|过于频繁|太频繁|请求数?(?:过多|太多|过快|太快)|并发|每分钟|每秒|分钟内最多请求"
    r"|頻率|並發|併發|每分鐘|每秒",
    re.IGNORECASE,
)
_PER_MINUTE = re.compile(
    r"\bper[ -]?(?:min|sec|hour)|/ ?(?:min(?:ute)?|sec(?:ond)?)\b|this minute|\b[rt]p[ms]\b|\bqps\b"
    r"|每分[钟鐘]|每秒|每小时|分钟内"
    r"|allocated quota exceeded",  # DashScope's limit of tokens a minute, under OpenAI's code for money
    re.IGNORECASE,
)
_NAMED_KEY = re.compile(
    r"^(?:(?:invalid|incorrect|expired)_?api_?key(?:_?error)?|api_?key_?(?:invalid|expired|not_?found|disabled|missing)"
    r"|invalid_?authentication(?:_?error)?|authentication_?(?:error|failed)|unauthenticated"
    r"|(?:organization|account)_?(?:restricted|deactivated|suspended|disabled|locked))$",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"api[ _-]?key (?:is |was |has |provided )*(?:not valid|not found|not provided|invalid|incorrect|expired|revoked"
    r"|disabled|deactivated|missing|required)"
    r"|(?:invalid|incorrect|wrong|expired|revoked|missing|unknown) api[ _-]?key"
    r"|(?:invalid|expired|revoked) (?:access|bearer|auth\w*) token"
    r"|(?:access|bearer|auth\w*) token (?:is |has )?(?:invalid|expired|revoked)|login fail"
    r"|(?:account|organization) (?:is |was |has been )?(?:disabled|deactivated|restricted|suspended|locked|banned)"
    r"|[账帳][户号號][^，。]{0,12}(?:锁定|停用|封禁|冻结|禁用|非激活|鎖定|停權|凍結)"
    r"|(?:api ?key|密钥|令牌) ?(?:无效|错误|不正确|不存在|已?过期|已?失效|已被?禁用)|无效的 ?(?:api ?key|密钥|令牌)",
    re.IGNORECASE,
)
_NAMED_NO_MODEL = re.compile(
    r"^(?:model_?not_?(?:found|exists?)|(?:unknown|no_such)_model|invalid_?endpoint_?or_?model\.not_?found|1211|20012)$",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\bmodels?(?: or endpoint| id| name)?[ :]*[`'\"“/]*[^\s`'\"”]{0,200}[`'\"”]*,?"
    r" (?:(?:does|do) not exist|doesn't exist|not exist|(?:is |was |were )?not found)"
    r"|\b(?:invalid|unknown|no such) model(?: name| id)?(?: passed\b|:| ?[`'\"“]|\.?$)"
    r"|not a valid model|model[^.]{0,40} try pulling it first"
    r"|模型 ?[^\s，。]{0,200} ?不存在|(?:无效的|未知的?|找不到)模型",
    re.IGNORECASE,
)
_NAMED_CONTENT = re.compile(r"data_?inspection_?failed|sensitive_?(?:content|words?)", re.IGNORECASE)
_CONTENT = re.compile(
    r"input was flagged|inappropriate content|content management policy|new_sensitive|敏感(?:内容|信息|词)|违规内容",
    re.IGNORECASE,
)
_NO_ANSWER = (FailureCode.INVALID_JSON, FailureCode.NOT_A_RESPONSE)


# A search for one of these words is a hundred times as fast as one of the patterns, and nearly always answers.
_MONEY_STEMS = (
    *("balance", "credit", "quota", "fund", "enough", "insufficient", "allowance", "free tier", "arrear", "overdue"),
    *("past", "unpaid", "payment", "billing", "spend", "budget", "recharge", "top up"),
    *("trial", "usage limit", "/ month"),
    *("余额", "额", "配", "欠", "充值", "资源包", "套餐", "点", "积分", "账单", "餘額", "額", "后付费"),
)
_RATE_STEMS = (
    *("rate", "limit", "too ", "throttl", "slow", "per ", "per-", "frequen", "requesting", "concurren", "parallel"),
    *("rpm", "tpm", "qps", "exceed", "wait"),
    *("速率", "限", "流控", "频", "并发", "每", "分钟", "请求", "頻率", "並發", "併發"),
)
_KEY_STEMS = ("key", "token", "密钥", "令牌", "account", "organization", "login", "账", "帳")


def tells_of_money(failure: Failure) -> bool:
    """Whether a failure says that the account can pay no more."""
    return _has_money_name(failure) or _says_money(_words(failure))


def is_about_money(failure: Failure) -> bool:
    """Whether a failure that no line can get past is about money, by its status or its words."""
    return failure.status_for_rules == 402 or tells_of_money(failure)


def tells_of_rate(failure: Failure) -> bool:
    """Whether a failure says that requests come too fast, or too many at once."""
    if failure.type in ("requests", "tokens") or _is_rate_name(failure.code) or _is_rate_name(failure.type):
        return True
    return _says_rate(_words(failure))


def tells_of_key(failure: Failure) -> bool:
    """Whether a failure says that the key is no good, or the account that it is of."""
    if any(_NAMED_KEY.search(name) for name in (failure.code, failure.type)):
        return True
    return _says_key(_words(failure))


def tells_of_no_model(failure: Failure) -> bool:
    """Whether a failure says that there is no such model."""
    return _NAMED_NO_MODEL.search(failure.code) is not None or _says_no_model(_words(failure))


def tells_of_content(failure: Failure) -> bool:
    """Whether a failure says that a filter took offence at what was sent or written: it will again."""
    names = (failure.code, failure.type)
    return any(map(_NAMED_CONTENT.search, names)) or _CONTENT.search(failure.message) is not None


def is_for_a_while(failure: Failure) -> bool:
    """Whether what a failure says of money is about a rate: it is per minute, or in words alone with a time to wait."""
    if failure.retry_after_s is not None and not _has_money_name(failure):
        return True
    return _PER_MINUTE.search(_words(failure)) is not None


def _has_money_name(failure: Failure) -> bool:
    return _is_money_name(failure.code) or _is_money_name(failure.type)


@lru_cache(maxsize=256)
def _is_money_name(name: str) -> bool:
    return _NAMED_MONEY.search(name) is not None


@lru_cache(maxsize=256)
def _is_rate_name(name: str) -> bool:
    return _NAMED_RATE.search(name) is not None


@lru_cache(maxsize=256)
def _says_money(message: str) -> bool:
    text = message.lower()
    return any(stem in text for stem in _MONEY_STEMS) and _MONEY.search(text) is not None


@lru_cache(maxsize=256)
def _says_rate(message: str) -> bool:
    text = message.lower()
    return any(stem in text for stem in _RATE_STEMS) and _RATE.search(text) is not None


@lru_cache(maxsize=256)
def _says_key(message: str) -> bool:
    text = message.lower()
    return any(stem in text for stem in _KEY_STEMS) and _KEY.search(text) is not None


@lru_cache(maxsize=256)
def _says_no_model(message: str) -> bool:
    text = message.lower()
    return any(stem in text for stem in ("model", "模型")) and _NO_MODEL.search(text) is not None


def quotes_request(failure: Failure, body: bytes) -> bool:
    """Whether all such words in a failure's message stand in the request's own body, too."""
    message = failure.message
    money = {match[0] for match in _MONEY.finditer(message)} if _says_money(message) else set()
    if not money and failure.status_for_rules == 429:
        return False  # the status says it
    told = [words for words, says in ((_RATE, _says_rate), (_KEY, _says_key)) if says(message)]
    found = money | {match[0] for words in told for match in words.finditer(message)}
    if not found:
        return False
    sent = body.lower()
    return all(any(spelling in sent for spelling in _spellings(text.lower())) for text in found)


def _words(failure: Failure) -> str:
    """The message as far as it is the gateway's own: a piece of a broken answer, or of the request, is not."""
    is_piece = failure.code in _NO_ANSWER and failure.looks_like_api
    return "" if is_piece or failure.quotes_request else failure.message


def _spellings(text: str) -> Iterator[bytes]:
    """A text as JSON may hold it."""
    yield text.encode()
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
